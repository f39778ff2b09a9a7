//! The built-in operators, and the brains of event time.

pub mod merge;
pub mod splits;
pub mod watermark;

pub use merge::{WatermarkMerger, WatermarkUpdate};
pub use splits::SplitWatermarks;
pub use watermark::{WatermarkGenerator, WatermarkOutput, WatermarkStrategy, Watermarks};

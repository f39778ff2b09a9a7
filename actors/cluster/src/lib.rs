//! Dispatcher, ResourceManager, JobMaster and TaskManager.

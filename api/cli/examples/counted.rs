//! Running counts of numbers that nobody reads: how fast records cross between subtasks, in one worker or between two.

use hurtig::prelude::*;

#[hurtig::main]
async fn main(env: StreamEnv) -> Result {
    let args = env.args();
    let (records, keys) = match &args[..] {
        [_, records, keys] => (records.parse()?, keys.parse::<u64>()?),
        _ => return Err("usage: counted RECORDS KEYS".into()),
    };
    env.from_source(
        // Keys in no order, and about as many records of each.
        GeneratorSource::new(records, move |i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15) % keys),
        Watermarks::none(),
    )
    .key_by(|key| *key)
    .count()
    .sink_to(DiscardingSink);
    env.execute("counted").await?;
    Ok(())
}

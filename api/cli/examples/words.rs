//! Word count, for the test that compares a cluster with `sort` and `uniq -c`.

use hurtig::prelude::*;

#[hurtig::main]
async fn main(env: StreamEnv) -> Result {
    let args = env.args();
    let [_, input, output] = &args[..] else {
        return Err("usage: words INPUT OUTPUT".into());
    };
    env.from_source(FileSource::lines(input), Watermarks::none())
        .flat_map(|line: Str, out| {
            line.split_ascii_whitespace()
                .for_each(|word| out.emit(Str::from(word)));
        })
        .key_by_ref(|word: &Str| word)
        .window(GlobalWindows::with_end_of_stream_trigger())
        .aggregate_then(
            Count::new(),
            |word: &Str, _, count: &u64, out: &mut Collector<String>| out.push(format!("{word}\t{count}")),
        )
        .sink_to(SingleFileSink::lines(std::path::Path::new(output)).overwrite(true))
        .set_parallelism(1);
    env.execute("word count").await?;
    Ok(())
}

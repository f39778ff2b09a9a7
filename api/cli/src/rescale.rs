//! Another parallelism for a job that runs.

use crate::client::with;
use crate::failure::Failure;
use crate::jobs::who_lists;
use crate::say::Answer;
use crate::session::{At, Session, job_id};
use crate::table::{Table, cell};
use clap::Args;
use hurtig_rest::{JobRequirements, ParallelismBounds, VertexRequirements};
use serde_json::{Value, json};

/// Which parallelism a job gets. Without one, what it has is shown.
#[derive(Args)]
pub(crate) struct RescaleArgs {
    #[command(flatten)]
    at: At,
    /// The job's id.
    #[arg(value_parser = job_id)]
    job: String,
    /// The parallelism of all vertices but those whose own the program sets; sources and sinks that cannot have as many have as
    /// many as they can. Fewer while there are fewer slots.
    #[arg(short, long, value_name = "N")]
    parallelism: Option<u32>,
    /// The parallelism with which it rather waits for slots than runs with fewer.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "parallelism")]
    at_least: u32,
    /// The parallelism of one vertex, by its id or the beginning of its name: `VERTEX=N`, or `VERTEX=LOWER..UPPER`. Several may be given.
    #[arg(long = "vertex", value_name = "VERTEX=N", value_parser = wish)]
    vertices: Vec<Wish>,
}

/// What is wanted of one vertex.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wish {
    vertex: String,
    bounds: ParallelismBounds,
}

fn wish(text: &str) -> Result<Wish, String> {
    let bad = || {
        format!(
            "'{text}' says no parallelism of a vertex: VERTEX=N and VERTEX=LOWER..UPPER do, such as `count=4` or `count=1..4`"
        )
    };
    let (vertex, said) = text.rsplit_once('=').ok_or_else(bad)?;
    let number = |said: &str| said.trim().parse::<u32>().map_err(|_| bad());
    let (lower, upper) = match said.split_once("..") {
        Some((lower, upper)) => (number(lower)?, number(upper)?),
        None => (1, number(said)?),
    };
    if vertex.is_empty() || lower == 0 || upper < lower {
        return Err(bad());
    }
    Ok(Wish {
        vertex: vertex.to_owned(),
        bounds: between(lower, upper),
    })
}

fn between(lower: u32, upper: u32) -> ParallelismBounds {
    ParallelismBounds {
        lower_bound: lower.into(),
        upper_bound: upper.into(),
    }
}

pub(crate) fn rescale(args: &RescaleArgs, session: &Session) -> Result<Answer, Failure> {
    let path = format!("/jobs/{}/resource-requirements", args.job);
    let asked = match args.parallelism {
        Some(0) => return Err(Failure::usage("a parallelism is at least 1")),
        Some(parallelism) if args.at_least == 0 || args.at_least > parallelism => {
            return Err(Failure::usage("--at-least is from 1 to --parallelism"));
        }
        Some(parallelism) => format!("{path}?parallelism={parallelism}&at-least={}", args.at_least),
        None => path.clone(),
    };
    with(async {
        let rest = session.rest(&args.at)?;
        let known = rest.get(&asked).await.map_err(who_lists)?;
        let job = rest
            .get(&format!("/jobs/{}", args.job))
            .await
            .map_err(who_lists)?;
        let unread = |_| "the jobmanager does not say what the job requires";
        let mut wanted: JobRequirements = serde_json::from_value(known).map_err(unread)?;
        for Wish { vertex, bounds } in &args.vertices {
            let parallelism = *bounds;
            wanted.insert(named(&job, vertex)?, VertexRequirements { parallelism });
        }
        let changes = args.parallelism.is_some() || !args.vertices.is_empty();
        if changes {
            rest.put(&path, &wanted).await?;
        }
        let human = shown(&job, &wanted, changes);
        Ok(Answer::new(
            json!({ "jobid": args.job, "declared": changes, "requirements": wanted }),
            human,
        ))
    })
}

/// The id of the vertex that somebody means.
fn named(job: &Value, said: &str) -> Result<String, Failure> {
    let vertices = || job["vertices"].as_array().into_iter().flatten();
    let id = |vertex: &Value| vertex["id"].as_str().unwrap_or_default().to_owned();
    let is_meant = |vertex: &&Value| {
        let begins = vertex["name"].as_str().is_some_and(|name| name.starts_with(said));
        begins
            || vertex["id"]
                .as_str()
                .is_some_and(|id| id.eq_ignore_ascii_case(said))
    };
    let meant: Vec<String> = vertices().filter(is_meant).map(id).collect();
    match meant.as_slice() {
        [one] => Ok(one.clone()),
        several => {
            let names: Vec<String> = vertices()
                .map(|vertex| format!("{} ('{}')", id(vertex), cell(&vertex["name"])))
                .collect();
            let which = if several.is_empty() {
                "no vertex"
            } else {
                "several vertices"
            };
            Err(Failure::usage(format!(
                "'{said}' means {which} of the job: it has {}",
                names.join(", ")
            )))
        }
    }
}

fn shown(job: &Value, wanted: &JobRequirements, changed: bool) -> String {
    let mut table = Table::new(&["VERTEX", "RUNS WITH", "AT LEAST", "AT MOST", "MAX", "NAME"]);
    for vertex in job["vertices"].as_array().into_iter().flatten() {
        let bounds = vertex["id"].as_str().and_then(|id| wanted.get(id));
        let bound = |of: fn(&ParallelismBounds) -> i64| {
            bounds
                .map(|known| of(&known.parallelism).to_string())
                .unwrap_or_default()
        };
        table.row([
            cell(&vertex["id"]),
            cell(&vertex["parallelism"]),
            bound(|known| known.lower_bound),
            bound(|known| known.upper_bound),
            cell(&vertex["maxParallelism"]),
            cell(&vertex["name"]),
        ]);
    }
    match changed {
        true => format!(
            "declared: the job takes a checkpoint and goes over to what fits into the slots that there are\n\n{}",
            table.text()
        ),
        false => table.text(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_names_a_vertex_and_how_many() {
        let of = |vertex: &str, lower, upper| {
            let vertex = vertex.to_owned();
            Ok(Wish {
                vertex,
                bounds: between(lower, upper),
            })
        };
        assert_eq!(wish("count=4"), of("count", 1, 4));
        assert_eq!(wish("a=b -> c=2..4"), of("a=b -> c", 2, 4));
        for wrong in [
            "count",
            "=4",
            "count=",
            "count=0",
            "count=4..2",
            "count=0..2",
            "count=x",
            "count=-1",
        ] {
            assert!(wish(wrong).unwrap_err().contains("VERTEX=N"), "{wrong}");
        }
    }

    #[test]
    fn a_vertex_is_meant_by_its_id_or_the_beginning_of_its_name() {
        let job = json!({ "vertices": [
            { "id": "aa", "name": "Source: numbers" }, { "id": "bb", "name": "count" }, { "id": "cc", "name": "counted" },
        ]});
        assert_eq!(named(&job, "Source").unwrap(), "aa");
        assert_eq!(named(&job, "BB").unwrap(), "bb");
        assert!(named(&job, "count").unwrap_err().to_string().contains("several"));
        assert!(named(&job, "x").unwrap_err().to_string().contains("'counted'"));
    }
}

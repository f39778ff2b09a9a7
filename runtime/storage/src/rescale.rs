//! Dealing the state of one operator out to its subtasks, at the same or another parallelism.

use crate::error::{Result, StorageError};
use hurtig_core::key::{KeyGroup, KeyGroupRange, MAX_KEY_GROUPS, subtask_of_group};
use hurtig_state::{
    AwayEntries, EncodedEntries, KeyedEntry, OperatorSection, OperatorSnapshot, Redistribution,
};
use std::collections::BTreeMap;

#[cfg(test)]
mod tests;

/// How many subtasks an operator has and can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// How many it has.
    pub parallelism: u32,
    /// How many it can have: the number of key groups.
    pub max_parallelism: u32,
}

/// Sections of one name by old subtask, in its order.
type Sections<S> = BTreeMap<String, Vec<(u32, S)>>;

/// The state of an operator's new subtasks, from that of its old ones, given with their index. Old
/// subtasks without state may be left out.
///
/// - Keyed entries go to the subtask that owns their key group.
/// - `Split` entries, taken in the order of old subtasks, are dealt out in runs whose lengths differ
///   by at most one; when the parallelism stays, each subtask keeps its own.
/// - `Union` entries of all old subtasks go to every new one, in the order of old subtasks.
/// - `Broadcast` entries go to every new subtask as one old subtask had them: its own, if it had any,
///   else in turn.
///
/// Every new subtask has every section, if only an empty one.
///
/// # Errors
/// [`StorageError::Rescale`] when the maximal parallelism changes, which would move keys to other
/// groups, or when the old subtasks do not agree.
pub fn redistribute(
    mut states: Vec<(u32, OperatorSnapshot)>,
    from: Scale,
    to: Scale,
) -> Result<Vec<OperatorSnapshot>> {
    check_scales(from, to)?;
    states.sort_by_key(|(index, _)| *index);
    check_subtasks(&states, from)?;
    let mut keyed: Sections<Vec<KeyedEntry>> = BTreeMap::new();
    let mut encoded: Sections<Vec<EncodedEntries>> = BTreeMap::new();
    let mut away: Sections<Vec<AwayEntries>> = BTreeMap::new();
    let mut operator: Sections<OperatorSection> = BTreeMap::new();
    for (index, state) in states {
        for (name, entries) in state.keyed {
            keyed.entry(name).or_default().push((index, entries));
        }
        for (name, parts) in state.encoded {
            encoded.entry(name).or_default().push((index, parts));
        }
        for (name, parts) in state.away {
            away.entry(name).or_default().push((index, parts));
        }
        for (name, section) in state.operator {
            operator.entry(name).or_default().push((index, section));
        }
    }
    let mut new = vec![OperatorSnapshot::default(); to.parallelism as usize];
    for (name, sections) in keyed {
        let parts = deal_keyed(&name, sections, to)?;
        for (subtask, part) in new.iter_mut().zip(parts) {
            subtask.keyed.insert(name.clone(), part);
        }
    }
    for (name, sections) in encoded {
        for (subtask, parts) in new.iter_mut().zip(deal_encoded(&name, sections, to)?) {
            subtask.encoded.insert(name.clone(), parts);
        }
    }
    for (name, sections) in away {
        for (subtask, parts) in new.iter_mut().zip(deal_away(&name, &sections, to)?) {
            subtask.away.insert(name.clone(), parts);
        }
    }
    for (name, sections) in operator {
        let redistribution = agreed(&name, &sections)?;
        let parts = deal_operator(redistribution, sections, from.parallelism, to.parallelism);
        for (subtask, entries) in new.iter_mut().zip(parts) {
            let section = OperatorSection {
                redistribution,
                entries,
            };
            subtask.operator.insert(name.clone(), section);
        }
    }
    Ok(new)
}

fn refuse<T>(problem: String) -> Result<T> {
    Err(StorageError::Rescale { problem })
}

fn check_scales(from: Scale, to: Scale) -> Result<()> {
    if from.max_parallelism != to.max_parallelism {
        return refuse(format!(
            "it was taken with max parallelism {} and the operator has {}; set the max parallelism to {}, it cannot \
             change once there is state",
            from.max_parallelism, to.max_parallelism, from.max_parallelism
        ));
    }
    for scale in [from, to] {
        let (parallelism, max) = (scale.parallelism, scale.max_parallelism);
        if parallelism == 0 || parallelism > max || max > MAX_KEY_GROUPS {
            return refuse(format!(
                "parallelism {parallelism} with max parallelism {max} is impossible; the parallelism is from 1 to the \
                 max parallelism, and that at most {MAX_KEY_GROUPS}"
            ));
        }
    }
    Ok(())
}

fn check_subtasks(states: &[(u32, OperatorSnapshot)], from: Scale) -> Result<()> {
    if let Some(twice) = states.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return refuse(format!("the state of subtask {} was given twice", twice[0].0));
    }
    match states.last() {
        Some((index, _)) if *index >= from.parallelism => refuse(format!(
            "there is state of subtask {index}, and the operator had parallelism {}",
            from.parallelism
        )),
        _ => Ok(()),
    }
}

fn deal_keyed(name: &str, sections: Vec<(u32, Vec<KeyedEntry>)>, to: Scale) -> Result<Vec<Vec<KeyedEntry>>> {
    let mut parts = vec![Vec::new(); to.parallelism as usize];
    for (index, entries) in sections {
        for entry in entries {
            check_group(name, index, entry.group, to)?;
            parts[owner(entry.group, to)].push(entry);
        }
    }
    Ok(parts)
}

fn deal_encoded(
    name: &str,
    sections: Vec<(u32, Vec<EncodedEntries>)>,
    to: Scale,
) -> Result<Vec<Vec<EncodedEntries>>> {
    let mut parts = vec![Vec::new(); to.parallelism as usize];
    for (index, encoded) in sections {
        for part in encoded {
            if let Some(last) = part.runs().last() {
                check_group(name, index, last.group, to)?;
            }
            let dealt = part.deal(parts.len(), |group| owner(group, to));
            for (parts, part) in parts.iter_mut().zip(dealt) {
                if !part.is_empty() {
                    parts.push(part);
                }
            }
        }
    }
    Ok(parts)
}

fn deal_away(name: &str, sections: &[(u32, Vec<AwayEntries>)], to: Scale) -> Result<Vec<Vec<AwayEntries>>> {
    let parts = sections
        .iter()
        .flat_map(|(index, parts)| parts.iter().map(move |part| (*index, part)));
    for (index, part) in parts.clone() {
        if let Some(last) = part.runs().last() {
            check_group(name, index, last.group, to)?;
        }
    }
    let own = |subtask: u32| {
        let groups = KeyGroupRange::of_subtask(subtask, to.parallelism, to.max_parallelism);
        // There are at most MAX_KEY_GROUPS.
        let groups = groups.first().get() as u16..(groups.last().get() + 1) as u16;
        let own = parts.clone().map(|(_, part)| part.within(groups.clone()));
        own.filter(|part| !part.is_empty()).collect()
    };
    Ok((0..to.parallelism).map(own).collect())
}

fn check_group(name: &str, index: u32, group: u16, to: Scale) -> Result<()> {
    if u32::from(group) < to.max_parallelism {
        return Ok(());
    }
    refuse(format!(
        "state '{name}' of subtask {index} has an entry of key group {group}, and there are {}; it was taken with \
         another max parallelism than it says",
        to.max_parallelism
    ))
}

/// The subtask that a key group goes to.
fn owner(group: u16, to: Scale) -> usize {
    subtask_of_group(
        KeyGroup::new(u32::from(group)),
        to.parallelism,
        to.max_parallelism,
    ) as usize
}

fn agreed(name: &str, sections: &[(u32, OperatorSection)]) -> Result<Redistribution> {
    let (first, section) = &sections[0];
    let how = section.redistribution;
    match sections.iter().find(|(_, other)| other.redistribution != how) {
        None => Ok(how),
        Some((index, other)) => refuse(format!(
            "operator state '{name}' is {how:?} in subtask {first} and {:?} in subtask {index}; one program declares \
             it in one way",
            other.redistribution
        )),
    }
}

fn deal_operator(
    how: Redistribution,
    sections: Vec<(u32, OperatorSection)>,
    old: u32,
    new: u32,
) -> Vec<Vec<Vec<u8>>> {
    match how {
        Redistribution::Split if old == new => {
            let mut parts = vec![Vec::new(); new as usize];
            for (index, section) in sections {
                parts[index as usize] = section.entries;
            }
            parts
        }
        Redistribution::Split => deal_evenly(joined(sections), new as usize),
        Redistribution::Union => vec![joined(sections); new as usize],
        Redistribution::Broadcast => (0..new).map(|index| copy_for(index, &sections)).collect(),
    }
}

fn joined(sections: Vec<(u32, OperatorSection)>) -> Vec<Vec<u8>> {
    sections
        .into_iter()
        .flat_map(|(_, section)| section.entries)
        .collect()
}

/// The subtask's own copy, if it had one, else one in turn.
fn copy_for(subtask: u32, sections: &[(u32, OperatorSection)]) -> Vec<Vec<u8>> {
    let own = sections.iter().find(|(index, _)| *index == subtask);
    let (_, section) = own.unwrap_or(&sections[subtask as usize % sections.len()]);
    section.entries.clone()
}

/// Runs whose lengths differ by at most one, the longer ones first.
fn deal_evenly(all: Vec<Vec<u8>>, parts: usize) -> Vec<Vec<Vec<u8>>> {
    let (least, longer) = (all.len() / parts, all.len() % parts);
    let mut rest = all.into_iter();
    (0..parts)
        .map(|part| rest.by_ref().take(least + usize::from(part < longer)).collect())
        .collect()
}

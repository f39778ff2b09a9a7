//! The index of a state file: its sections, where key groups begin, and its data blocks.

use crate::format::writer::BlockLengths;
use hurtig_core::key::MAX_KEY_GROUPS;
use hurtig_core::varint;
use hurtig_state::Redistribution;
use hurtig_state::encoded::GroupRun;

/// What a section holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SectionKind {
    Keyed(Vec<GroupRun>),
    Operator {
        redistribution: Redistribution,
        entries: u64,
        bytes: u64,
    },
}

/// One state of one operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) name: String,
    pub(super) kind: SectionKind,
}

/// Everything but the entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    /// Sections by snapshot, in the order of their data.
    pub(super) snapshots: Vec<Vec<Section>>,
    pub(super) blocks: Vec<BlockLengths>,
}

const KEYED: u64 = 0;

impl Section {
    /// How many bytes its entries take.
    pub(super) fn bytes(&self) -> Option<u64> {
        match &self.kind {
            SectionKind::Keyed(runs) => runs.iter().try_fold(0_u64, |sum, run| sum.checked_add(run.bytes)),
            SectionKind::Operator { bytes, .. } => Some(*bytes),
        }
    }

    /// How many entries it has.
    pub(super) fn entries(&self) -> u64 {
        match &self.kind {
            SectionKind::Keyed(runs) => runs.iter().map(|run| run.entries).sum(),
            SectionKind::Operator { entries, .. } => *entries,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let kind = match &self.kind {
            SectionKind::Keyed(_) => KEYED,
            SectionKind::Operator { redistribution, .. } => code(*redistribution),
        };
        varint::put(out, kind);
        varint::put(out, self.name.len() as u64);
        out.extend_from_slice(self.name.as_bytes());
        match &self.kind {
            SectionKind::Keyed(runs) => write_runs(runs, out),
            SectionKind::Operator { entries, bytes, .. } => {
                varint::put(out, *entries);
                varint::put(out, *bytes);
            }
        }
    }

    fn read(bytes: &mut &[u8]) -> Option<Self> {
        let kind = varint::take(bytes)?;
        let length = usize::try_from(varint::take(bytes)?).ok()?;
        let (name, rest) = bytes.split_at_checked(length)?;
        *bytes = rest;
        let kind = match kind {
            KEYED => SectionKind::Keyed(read_runs(bytes)?),
            code => SectionKind::Operator {
                redistribution: redistribution(code)?,
                entries: varint::take(bytes)?,
                bytes: varint::take(bytes)?,
            },
        };
        let name = str::from_utf8(name).ok()?.to_owned();
        Some(Self { name, kind })
    }
}

impl Index {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        varint::put(&mut out, self.snapshots.len() as u64);
        for sections in &self.snapshots {
            varint::put(&mut out, sections.len() as u64);
            for section in sections {
                section.write(&mut out);
            }
        }
        varint::put(&mut out, self.blocks.len() as u64);
        for block in &self.blocks {
            varint::put(&mut out, u64::from(block.stored));
            varint::put(&mut out, u64::from(block.raw));
        }
        out
    }

    /// Reads an index; `None` when the bytes are not exactly one. Nothing is allocated for a count:
    /// each thing counted takes a byte at least.
    pub(super) fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let mut index = Self::default();
        for _ in 0..varint::take(&mut bytes)? {
            let mut sections = Vec::new();
            for _ in 0..varint::take(&mut bytes)? {
                sections.push(Section::read(&mut bytes)?);
            }
            index.snapshots.push(sections);
        }
        for _ in 0..varint::take(&mut bytes)? {
            let stored = u32::try_from(varint::take(&mut bytes)?).ok()?;
            let raw = u32::try_from(varint::take(&mut bytes)?).ok()?;
            index.blocks.push(BlockLengths { stored, raw });
        }
        bytes.is_empty().then_some(index)
    }
}

fn write_runs(runs: &[GroupRun], out: &mut Vec<u8>) {
    varint::put(out, runs.len() as u64);
    let mut least = 0;
    for run in runs {
        assert!(run.group >= least, "key groups of a section are ordered");
        varint::put(out, u64::from(run.group - least));
        varint::put(out, run.entries);
        varint::put(out, run.bytes);
        least = run.group + 1;
    }
}

fn read_runs(bytes: &mut &[u8]) -> Option<Vec<GroupRun>> {
    let mut runs = Vec::new();
    let mut least = 0_u64;
    for _ in 0..varint::take(bytes)? {
        let group = least.checked_add(varint::take(bytes)?)?;
        if group >= u64::from(MAX_KEY_GROUPS) {
            return None;
        }
        runs.push(GroupRun {
            group: u16::try_from(group).ok()?,
            entries: varint::take(bytes)?,
            bytes: varint::take(bytes)?,
        });
        least = group + 1;
    }
    Some(runs)
}

fn code(redistribution: Redistribution) -> u64 {
    match redistribution {
        Redistribution::Split => 1,
        Redistribution::Union => 2,
        Redistribution::Broadcast => 3,
    }
}

fn redistribution(code: u64) -> Option<Redistribution> {
    use Redistribution::{Broadcast, Split, Union};
    [Split, Union, Broadcast]
        .into_iter()
        .find(|how| self::code(*how) == code)
}

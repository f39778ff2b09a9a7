use proptest::prelude::*;
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use super::*;

fn bytes_of<K: StableKey + ?Sized>(key: &K) -> Vec<u8> {
    let mut bytes = Vec::new();
    key.encode(&mut bytes);
    bytes
}

fn check<K: OwnedKey + std::fmt::Debug>(key: K) {
    let mut bytes = bytes_of(&key);
    assert_eq!(decode_exact::<K>(&bytes).as_ref(), Ok(&key));
    assert_eq!(key.clone().detach(), key);
    bytes.push(7);
    let mut rest = bytes.as_slice();
    assert_eq!(K::decode(&mut rest).as_ref(), Ok(&key), "self-delimiting");
    assert_eq!(rest, [7]);
}

/// Values from which no release may depart: state and snapshots depend on them. They were computed
/// by another implementation (the C library of XXH3, SplitMix64 in Python).
#[test]
fn golden_hashes() {
    assert_eq!(0_u64.stable_hash(), 0);
    assert_eq!(1_u64.stable_hash(), 0x5692_161d_100b_05e5);
    assert_eq!(42_u8.stable_hash(), 0xa759_ea27_d472_7622);
    assert_eq!((-1_i32).stable_hash(), 0xb4d0_55fc_f2cb_bd7b);
    assert_eq!(true.stable_hash(), 0x5692_161d_100b_05e5);
    assert_eq!('A'.stable_hash(), 0x6b18_769d_9c32_4eab);
    assert_eq!("".stable_hash(), 0x3325_230e_1f28_5505);
    assert_eq!("a".stable_hash(), 0x2c93_f543_7209_540f);
    assert_eq!("stream".stable_hash(), 0x7707_64ad_0d68_cbd0);
    assert_eq!("user-0000042".stable_hash(), 0xc0e2_ec5f_b7dc_40a6);
    assert_eq!(
        "a sentence that is longer than thirty bytes".stable_hash(),
        0x8919_0e9c_b352_ce9d
    );
    assert_eq!("nul\0inside".stable_hash(), 0x554a_9751_a4ed_3634);
    assert_eq!(7_u128.stable_hash(), 0xfde1_f33f_2355_7a90);
    assert_eq!(().stable_hash(), 0x2d06_8005_38d3_94c2);
    assert_eq!(("user", 7_u32).stable_hash(), 0x9e3c_6900_fb86_38cb);
    assert_eq!(Some(5_i64).stable_hash(), 0x6684_6378_8c78_8c1f);
    assert_eq!(
        Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff).stable_hash(),
        0xc56c_de21_e711_bf96
    );
}

#[test]
fn golden_fingerprints() {
    assert_eq!(shape_fingerprint::<u64>(), 0xa248_1493_b936_2ff3);
    assert_eq!(shape_fingerprint::<(String, i32)>(), 0xe757_d43f_0a36_49ae);
}

#[test]
fn golden_bytes() {
    assert_eq!(bytes_of(&0x0102_u16), [1, 2]);
    assert_eq!(bytes_of(&-1_i16), [0x7f, 0xff]);
    assert_eq!(bytes_of(&1_i16), [0x80, 0x01]);
    assert_eq!(bytes_of(&1_usize), [0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(bytes_of(&'a'), [0, 0, 0, 0x61]);
    assert_eq!(bytes_of("a\0b"), [b'a', 0, 0xff, b'b', 0, 0]);
    assert_eq!(bytes_of(&vec![0_u8]), [0, 0xff, 0, 0]);
    assert_eq!(bytes_of(&(true, Some(2_u8), None::<u8>)), [1, 1, 2, 0]);
    assert_eq!(bytes_of(&[1_u8, 2]), [1, 2]);
}

#[test]
fn shapes() {
    assert_eq!(shape_of::<(&str, i32)>(), "(str,i32)");
    assert_eq!(shape_of::<(String, i32)>(), "(str,i32)");
    assert_eq!(shape_of::<(u8,)>(), "(u8)");
    assert_eq!(shape_of::<[Option<Uuid>; 3]>(), "[option<uuid>;3]");
    assert_eq!(
        shape_of::<(Vec<u8>, usize, bool, char, ())>(),
        "(bytes,u64,bool,char,())"
    );
}

#[test]
fn integers_of_every_width_hash_alike() {
    assert_eq!(5_u8.stable_hash(), 5_u64.stable_hash());
    assert_eq!((-5_i8).stable_hash(), (-5_i64).stable_hash());
    assert_eq!((-5_i8).stable_hash(), (-5_isize).stable_hash());
    assert_eq!(200_u8.stable_hash(), 200_i32.stable_hash());
}

#[test]
fn fixed_values_round_trip() {
    check(());
    check((1_u8, -2_i16, 3_u32, -4_i64, 5_u128, -6_i128));
    check((usize::MAX, isize::MIN));
    check([Some(String::from("a\0")), None, Some(String::new())]);
    check(Uuid::from_u128(9));
    check((vec![0_u8, 0, 255, 0], 'ß', false));
}

#[test]
fn damage_is_reported() {
    assert_eq!(
        decode_exact::<u32>(&[1, 2]),
        Err(KeyDecodeError::Truncated {
            shape: "u32",
            needed: 4,
            available: 2
        })
    );
    assert_eq!(
        decode_exact::<u8>(&[1, 2]),
        Err(KeyDecodeError::TrailingBytes { count: 1 })
    );
    assert_eq!(
        decode_exact::<String>(b"ab"),
        Err(KeyDecodeError::Unterminated { shape: "str" })
    );
    assert_eq!(
        decode_exact::<String>(b"ab\0"),
        Err(KeyDecodeError::Unterminated { shape: "str" })
    );
    assert_eq!(
        decode_exact::<Vec<u8>>(b"ab\0\x05"),
        Err(KeyDecodeError::BadEscape {
            shape: "bytes",
            found: 5
        })
    );
    assert!(matches!(
        decode_exact::<String>(b"\xff\0\0"),
        Err(KeyDecodeError::BadUtf8(_))
    ));
    assert_eq!(
        decode_exact::<char>(&[0, 0, 0xd8, 0]),
        Err(KeyDecodeError::BadChar { found: 0xd800 })
    );
    assert_eq!(
        decode_exact::<bool>(&[2]),
        Err(KeyDecodeError::BadTag {
            type_name: "bool",
            found: 2,
            max: 1
        })
    );
}

type Compound = (String, i32, Option<Vec<u8>>, [u16; 2], bool, char);

fn compound() -> impl Strategy<Value = Compound> {
    let text = proptest::collection::vec(prop_oneof![Just('\0'), Just('a'), any::<char>()], 0..40)
        .prop_map(String::from_iter);
    let bytes = proptest::collection::vec(prop_oneof![Just(0_u8), Just(255), any::<u8>()], 0..150);
    (
        text,
        any::<i32>(),
        proptest::option::of(bytes),
        any::<[u16; 2]>(),
        any::<bool>(),
        any::<char>(),
    )
}

proptest! {
    #[test]
    fn compound_keys_round_trip(key in compound()) {
        check(key);
    }

    #[test]
    fn bytes_sort_as_keys_do(a in compound(), b in compound()) {
        prop_assert_eq!(bytes_of(&a).cmp(&bytes_of(&b)), a.cmp(&b));
        prop_assert_eq!(bytes_of(&a.0).cmp(&bytes_of(&b.0)), a.0.cmp(&b.0));
    }

    #[test]
    fn signed_integers_sort(a: i64, b: i64, c: i8, d: i8) {
        prop_assert_eq!(bytes_of(&a).cmp(&bytes_of(&b)), a.cmp(&b));
        prop_assert_eq!(bytes_of(&c).cmp(&bytes_of(&d)), c.cmp(&d));
    }

    #[test]
    fn the_hash_is_xxh3_of_the_bytes(key in compound()) {
        prop_assert_eq!(key.stable_hash(), xxh3_64(&bytes_of(&key)));
        prop_assert_eq!(key.0.stable_hash(), xxh3_64(&bytes_of(&key.0)));
        prop_assert_eq!(key.0.as_str().stable_hash(), key.0.stable_hash());
    }

    #[test]
    fn long_strings_hash_alike(text in "[a-z\\x00]{100,600}") {
        prop_assert_eq!(text.stable_hash(), xxh3_64(&bytes_of(&text)));
    }

    #[test]
    fn damaged_keys_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = decode_exact::<Compound>(&bytes);
    }

    #[test]
    fn hash_int_is_a_bijection(a: u64, b: u64) {
        prop_assert_eq!(a == b, hash_int(a) == hash_int(b));
    }
}

#[test]
fn golden_key_groups() {
    assert_eq!(key_group(0, 128).get(), 0);
    assert_eq!(key_group(u64::MAX, 128).get(), 127);
    assert_eq!(key_group(0x0000_8000_0000_0000, 128).get(), 64);
    assert_eq!(key_group(1_u64.stable_hash(), 128).get(), 11);
    assert_eq!(key_group("stream".stable_hash(), 128).get(), 50);
    assert_eq!(key_group("stream".stable_hash(), 32_768).get(), 12886);
}

#[test]
fn golden_default_maximum() {
    for (parallelism, expected) in [
        (1, 128),
        (85, 128),
        (86, 256),
        (200, 512),
        (10_000, 16_384),
        (30_000, 32_768),
        (40_000, 32_768),
    ] {
        assert_eq!(
            default_max_parallelism(parallelism),
            expected,
            "parallelism {parallelism}"
        );
    }
}

#[test]
fn ranges() {
    let range = KeyGroupRange::of_subtask(1, 3, 128);
    assert_eq!(
        (range.first().get(), range.last().get(), range.len()),
        (43, 85, 43)
    );
    assert_eq!(range.to_string(), "43..=85");
    assert_eq!(range.position(KeyGroup::new(45)), Some(2));
    assert_eq!(range.position(KeyGroup::new(86)), None);
    let all = KeyGroupRange::all(128);
    assert_eq!(all.intersection(range), Some(range));
    assert_eq!(range.intersection(KeyGroupRange::of_subtask(2, 3, 128)), None);
    assert_eq!(range.iter().count(), 43);
}

proptest! {
    #[test]
    fn subtasks_share_all_groups(max in 1_u32..=MAX_KEY_GROUPS, part in 0.0_f64..1.0) {
        let parallelism = 1 + (f64::from(max - 1) * part) as u32;
        let mut next = 0;
        for subtask in 0..parallelism {
            let range = KeyGroupRange::of_subtask(subtask, parallelism, max);
            prop_assert_eq!(range.first().get(), next);
            prop_assert_eq!(subtask_of_group(range.first(), parallelism, max), subtask);
            prop_assert_eq!(subtask_of_group(range.last(), parallelism, max), subtask);
            let fair = (max / parallelism) as usize;
            prop_assert!(range.len() == fair || range.len() == fair + 1);
            next = range.last().get() + 1;
        }
        prop_assert_eq!(next, max);
    }

    #[test]
    fn every_hash_has_a_group(hash: u64, max in 1_u32..=MAX_KEY_GROUPS) {
        prop_assert!(key_group(hash, max).get() < max);
    }
}

/// Sequential integers, the keys of most examples, spread evenly.
#[test]
fn groups_are_balanced() {
    let mut counts = [0_u32; 128];
    for key in 0..128_000_u64 {
        counts[key_group(key.stable_hash(), 128).index()] += 1;
    }
    assert!(
        counts.iter().all(|&count| (850..1150).contains(&count)),
        "{counts:?}"
    );
}

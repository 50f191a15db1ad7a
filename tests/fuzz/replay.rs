//! Runs the committed samples of a fuzz target, and what a few thousand small changes make of them. Part of the unit tests
//! of each crate that has targets; the same samples are where `tests/fuzz/run` begins.

use std::fs;
use std::path::Path;

/// Changed samples per target.
const CHANGED: usize = 3000;
/// Longest sample that is changed; longer ones only run as they are.
const LONGEST: usize = 16 << 10;

/// Runs every sample of `target`, then the changed ones, which are the same every time.
///
/// # Panics
/// No samples, or whatever `entry` found; what it was given is printed.
pub(crate) fn replay(target: &str, entry: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus").join(target);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    let samples: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(!samples.is_empty(), "{} holds no samples", folder.display());
    for (path, sample) in paths.iter().zip(&samples) {
        run(&path.display().to_string(), sample, entry);
    }
    let short: Vec<&Vec<u8>> = samples.iter().filter(|sample| sample.len() <= LONGEST).collect();
    assert!(!short.is_empty(), "{} holds nothing short", folder.display());
    let mut random = Random(0x5eed);
    for number in 0..CHANGED {
        let sample = short[number % short.len()];
        let other = short[random.below(short.len())];
        run(&format!("changed sample {number} of {target}"), &changed(sample, other, &mut random), entry);
    }
}

/// Says which input it was, since the panic does not.
fn run(name: &str, input: &[u8], entry: fn(&[u8])) {
    struct Running<'a>(&'a str, &'a [u8]);
    impl Drop for Running<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("it was {}: \"{}\"", self.0, self.1.escape_ascii());
            }
        }
    }
    let running = Running(name, input);
    entry(input);
    drop(running);
}

/// One to four of: a flipped bit, another byte, a cut, a doubled piece, a piece of another sample, a number's extreme.
fn changed(sample: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut input = sample.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(input.len() + 1);
        let end = at + random.below(input.len() - at + 1);
        match random.below(6) {
            0 if at < input.len() => input[at] ^= 1 << random.below(8),
            1 if at < input.len() => input[at] = random.below(256) as u8,
            2 => {
                input.drain(at..end.min(at + 64));
            }
            3 => {
                let piece = input[at..end.min(at + 64)].to_vec();
                input.splice(at..at, piece);
            }
            4 => {
                let from = random.below(other.len() + 1);
                let piece = &other[from..other.len().min(from + 64)];
                input.splice(at..at, piece.iter().copied());
            }
            _ => {
                let extreme = [[0; 4], [0xff; 4], [0x7f, 0xff, 0xff, 0xff], [0, 0, 0, 0x80]][random.below(4)];
                let width = [1, 2, 4][random.below(3)].min(input.len() - at);
                input[at..at + width].copy_from_slice(&extreme[..width]);
            }
        }
    }
    input
}

/// SplitMix64: the same numbers everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) % bound as u64) as usize
    }
}

//! What holds for every input, whatever its meaning: however it is cut, the outcome is the same, and not a byte more is
//! read than that takes.

use rinha::http::{ChunkedDecoder, Head, HeadParser, Progress, Reject};

/// Inputs up to this length are also cut at every byte at once.
const CUT_EVERYWHERE_MAX: usize = 2000;

pub(super) fn parse(input: &[u8]) -> Result<Progress<Head>, Reject> {
    HeadParser::default().parse(input)
}

fn parse_cut(input: &[u8], cuts: impl Iterator<Item = usize>) -> Result<Progress<Head>, Reject> {
    let mut parser = HeadParser::default();
    cuts.map(|cut| parser.parse(&input[..cut]))
        .find(|outcome| *outcome != Ok(Progress::Partial))
        .unwrap_or(Ok(Progress::Partial))
}

/// The places in order, each within the input, and its end.
fn in_order(input: &[u8], mut cuts: Vec<usize>) -> Vec<usize> {
    cuts.iter_mut().for_each(|cut| *cut = (*cut).min(input.len()));
    cuts.push(input.len());
    cuts.sort_unstable();
    cuts
}

pub(super) fn check_head(input: &[u8], cuts: Vec<usize>) {
    let whole = parse(input);
    if let Ok(Progress::Complete(head)) = &whole {
        assert!(head.length <= input.len());
        assert!(!head.target.is_empty() && head.target.end < head.length);
        assert!(input[..head.length].ends_with(b"\r\n\r\n"));
        // Not a byte less would have done, and what follows plays no part.
        assert_eq!(parse(&input[..head.length - 1]), Ok(Progress::Partial));
        assert_eq!(parse(&input[..head.length]), whole);
    }
    assert_eq!(parse_cut(input, in_order(input, cuts).into_iter()), whole);
    if input.len() < CUT_EVERYWHERE_MAX {
        assert_eq!(parse_cut(input, 0..=input.len()), whole);
    }
}

/// The body, the bytes that it took, and whether that was all of it.
pub(super) type Decoded = Result<(Vec<u8>, usize, Progress<()>), Reject>;

fn decode_cut(input: &[u8], cuts: impl Iterator<Item = usize>) -> Decoded {
    let mut decoder = ChunkedDecoder::default();
    let (mut body, mut used) = (Vec::new(), 0);
    for cut in cuts {
        let (n, progress) = decoder.decode(&input[used..cut], &mut body)?;
        used += n;
        if progress == Progress::Complete(()) {
            return Ok((body, used, progress));
        }
        assert_eq!(used, cut);
    }
    Ok((body, used, Progress::Partial))
}

/// Gives the outcome.
pub(super) fn check_chunked(input: &[u8], cuts: Vec<usize>) -> Decoded {
    let whole = decode_cut(input, [input.len()].into_iter());
    assert_eq!(decode_cut(input, in_order(input, cuts).into_iter()), whole);
    assert_eq!(decode_cut(input, 0..=input.len()), whole);
    whole
}

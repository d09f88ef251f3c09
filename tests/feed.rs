//! Everything that reads what others wrote, each as a function of bytes: the fuzz targets (`tests/fuzz`) and the replay of
//! their corpus (`tests/corpus.rs`) call the same ones. They return nothing: whatever the bytes are, there must be no panic,
//! and what is accepted must be what it claims to be.

use std::path::PathBuf;
use std::sync::OnceLock;

use gpusched_daemon::config::Config;
use gpusched_daemon::journal::row::{self, JobRow};
use gpusched_daemon::server::greeting;
use gpusched_models::Picture;
use gpusched_models::gguf::Header;
use gpusched_models::tokenizer::{ChatTokenizer, Words};
use gpusched_shared::frame::{Frame, FrameTooLarge, Frames, HEADER, MAX_REQUEST};
use gpusched_shared::spec::{MAX_TEXT_BYTES, check_key};
use gpusched_shared::{Rejection, Request, Response, VERSION_MAX, VERSION_MIN, codec};
use gpusched_sim::Scenario;

/// A function that takes any bytes.
pub type Feed = fn(&[u8]);

/// Every target by its name.
pub const TARGETS: [(&str, Feed); 9] = [
    ("frames", frames),
    ("codec", codec),
    ("handshake", handshake),
    ("configuration", configuration),
    ("pictures", pictures),
    ("tokenizer", tokenizer),
    ("rows", rows),
    ("scenarios", scenarios),
    ("gguf", gguf),
];

/// Pixels that a picture may have here: few, so that most of the time goes into what is strange.
const MAX_PIXELS: u64 = 1 << 20;

fn cut(bytes: &[u8], piece: usize) -> (Vec<Frame>, Option<FrameTooLarge>) {
    let mut frames = Frames::new(MAX_REQUEST);
    let mut whole = Vec::new();
    for piece in bytes.chunks(piece) {
        frames.push(piece);
        loop {
            match frames.next_frame() {
                Ok(Some(frame)) => {
                    assert!(frame.payload.len() <= MAX_REQUEST);
                    whole.push(frame);
                }
                Ok(None) => break,
                Err(too_large) => return (whole, Some(too_large)),
            }
        }
    }
    (whole, None)
}

/// A stream of bytes, cut into frames: the same ones however it arrives. The first byte says in what pieces.
pub fn frames(bytes: &[u8]) {
    let Some((&piece, stream)) = bytes.split_first() else { return };
    let (frames, end) = cut(stream, usize::from(piece) + 1);
    let (at_once, end_at_once) = cut(stream, stream.len().max(1));
    assert_eq!((&frames, end), (&at_once, end_at_once));
    let again: Vec<u8> = frames.iter().flat_map(Frame::to_bytes).collect();
    assert!(stream.starts_with(&again) && again.len() >= frames.len() * HEADER);
}

/// A payload, as a request and as a response. What decodes is encoded to the same bytes.
pub fn codec(bytes: &[u8]) {
    if let Ok(request) = codec::decode::<Request>(bytes) {
        assert_eq!(codec::encode(&request).expect("it was decoded"), bytes);
        if let Request::Submit { spec, pictures, key, .. } = &request {
            let _ = spec.validate(usize::from(*pictures));
            let _ = key.as_deref().map(check_key);
        }
    }
    if let Ok(response) = codec::decode::<Response>(bytes) {
        assert_eq!(codec::encode(&response).expect("it was decoded"), bytes);
        if let Response::Rejected(rejection) = response {
            let _ = rejection.to_string();
        }
    }
}

/// A connection's first words. Who is welcome has said Hello, and speaks what the daemon speaks.
pub fn handshake(bytes: &[u8]) {
    let mut frames = Frames::new(MAX_REQUEST);
    frames.push(bytes);
    let Ok(Some(frame)) = frames.next_frame() else { return };
    let request = codec::decode::<Request>(&frame.payload);
    let hello = match &request {
        Ok(Request::Hello { least, most, .. }) => Some((*least, *most)),
        Ok(_) | Err(_) => None,
    };
    let request = request.map_err(|e| Rejection::Malformed { reason: e.to_string() });
    let response = greeting(request, 64);
    if let Response::Welcome { version, .. } = response {
        let (least, most) = hello.expect("only Hello is welcome");
        assert!((least..=most).contains(&version) && (VERSION_MIN..=VERSION_MAX).contains(&version));
    } else if let Response::Rejected(rejection) = response {
        let speaks = hello.is_some_and(|(least, most)| least <= most && least <= VERSION_MAX && most >= VERSION_MIN);
        assert!(!speaks, "{rejection}");
    } else {
        panic!("no greeting: {response:?}");
    }
}

/// A configuration file: refused, or usable.
pub fn configuration(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(config) = toml::from_str::<Config>(text)
        && config.check().is_ok()
    {
        assert!(!config.lanes().is_empty());
    }
}

/// A picture file: refused, or of as many pixels as it says and at most as many as it may.
pub fn pictures(bytes: &[u8]) {
    if let Ok(picture) = Picture::decode(bytes, MAX_PIXELS) {
        let pixels = u64::from(picture.width()) * u64::from(picture.height());
        assert!(pixels <= MAX_PIXELS);
        assert_eq!(picture.rgb().len() as u64, 3 * pixels);
    }
}

/// A prompt or question, through the tokenizers of the shipped models: only tokens that those know.
pub fn tokenizer(bytes: &[u8]) {
    static SHIPPED: OnceLock<(Words, ChatTokenizer)> = OnceLock::new();
    const WORDS: usize = 122;
    const CHAT: usize = 413;
    let (words, chat) = SHIPPED.get_or_init(|| {
        let weights: PathBuf = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/weights").into();
        let words = Words::load(&weights.join("vilt-tiny"), WORDS).expect("the shipped tokenizer");
        let chat = ChatTokenizer::load(&weights.join("flux2-klein-tiny/tokenizer"), CHAT, 512);
        (words, chat.expect("the shipped tokenizer"))
    });
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // Longer ones are refused before.
    if text.len() > MAX_TEXT_BYTES {
        return;
    }
    if let Ok(ids) = words.encode(text) {
        assert!(ids.iter().all(|&id| (id as usize) < WORDS) && ids.len() <= 4 * text.len() + 16);
    }
    if let Ok(prompt) = chat.encode(text) {
        assert!(prompt.ids.iter().all(|&id| (id as usize) < CHAT));
        assert!(prompt.ids.len() == chat.length() && (1..=chat.length()).contains(&prompt.used));
    }
}

/// A row of the journal: numbers on the first line, then the texts, a line each; `-` is none.
pub fn row(text: &str) -> JobRow {
    let mut lines = text.split('\n');
    let mut numbers = lines.next().unwrap_or_default().split(' ').map(|number| number.parse().ok());
    let mut number = || numbers.next().flatten();
    let mut line = || lines.next().filter(|line| *line != "-").map(str::to_owned);
    JobRow {
        id: number().unwrap_or(0),
        uid: number().unwrap_or(0),
        attempts: number().unwrap_or(0),
        retries: number().unwrap_or(0),
        backoff_us: number().unwrap_or(0),
        retry_at_unix_ms: number(),
        wait_us: number(),
        run_us: number(),
        parent: number(),
        record: line().unwrap_or_default(),
        outcome: line(),
        usage: line(),
        part: line(),
        reflection: line(),
    }
}

/// What stands in the journal: refused, or such as can be told to its owner.
pub fn rows(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let row = row(text);
    let _ = row::retry_at(&row);
    if let Ok(record) = row::record(&row) {
        assert!(i64::try_from(record.id.0) == Ok(row.id) && i64::from(record.uid) == row.uid);
        let outcome = row::outcome(&row).ok().flatten();
        assert!(row::blobs(&record, outcome.as_ref()).len() >= record.pictures.len());
    }
    if let Ok(view) = row::view(&row) {
        assert!(codec::encode(&Response::Job(view)).is_ok());
    }
    if let Ok(ended) = row::ended_part(&row) {
        assert!(i64::try_from(ended.part.of.0).ok() == row.parent);
    }
    // The other columns that are not numbers.
    for text in text.split('\n').skip(6) {
        let _ = row::attempt_end(row.id, text);
        let _ = row::parked(row.id, text);
        let _ = row::hash(row.id, text);
    }
}

/// A scenario: refused, or usable.
pub fn scenarios(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(scenario) = Scenario::parse(text, "fuzz") {
        assert!(scenario.check().is_ok());
    }
}

/// The begin of a file of weights: refused, or of tensors that lie within it, each in a place of its own.
pub fn gguf(bytes: &[u8]) {
    let length = bytes.len() as u64;
    let Ok(header) = Header::read(bytes, length) else { return };
    let mut places: Vec<_> = header.tensors.values().map(|tensor| (tensor.start, tensor.bytes())).collect();
    places.sort_unstable();
    let end = places.into_iter().fold(24, |free, (start, bytes)| {
        assert!(start >= free && bytes > 0, "{header:?}");
        start + bytes
    });
    assert!(end <= length.max(24), "{header:?}");
}

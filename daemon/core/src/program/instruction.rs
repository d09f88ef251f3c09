//! What an instruction asks to be changed, and into what, as far as a few rules of English tell: "make the red circle blue", "turn
//! the cat into a dog", "replace the circle with a square".

use super::prompt::{COLORS, with_article};

/// An instruction as it was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// What to look for, such as `red circle`.
    pub target: String,
    /// What is to be there instead, such as `a blue circle`.
    pub prompt: String,
}

/// Verbs after which a thing and what it is to be stand side by side.
const MAKE: &[&str] = &["make", "paint", "color", "colour", "turn", "change"];
/// Verbs after which another thing is named that takes its place.
const REPLACE: &[&str] = &["replace", "swap", "exchange"];
/// What stands between a thing and what it is to be.
const INTO: &[&str] = &["into", "to", "with", "by", "for"];
/// What begins the name of a thing that is there.
const THE: &[&str] = &["the", "this", "that"];
/// What begins the name of another one.
const ARTICLES: &[&str] = &["a", "an"];
/// The most words that are looked at.
const MOST_WORDS: usize = 32;

impl Instruction {
    /// Reads an instruction; `None` if no rule knows what is to be changed, or into what.
    pub fn read(text: &str) -> Option<Self> {
        let lower = text.to_lowercase();
        let separates = |c: char| !(c.is_alphanumeric() || c == '-' || c == '\'');
        let words: Vec<&str> = lower.split(separates).filter(|word| !word.is_empty()).take(MOST_WORDS + 1).collect();
        let words = words.strip_prefix(&["please"]).unwrap_or(&words);
        let (verb, rest) = words.split_first().filter(|_| words.len() <= MOST_WORDS)?;
        let (first, named) = rest.split_first()?;
        if !THE.contains(first) {
            return None;
        }
        if let Some(at) = named.iter().position(|word| INTO.contains(word)) {
            let known = MAKE.contains(verb) || REPLACE.contains(verb);
            return known.then(|| Self::of(&named[..at], &named[at + 1..])).flatten();
        }
        if !MAKE.contains(verb) {
            return None;
        }
        // "the circle a square", or "the red circle blue".
        let at = named.iter().position(|word| ARTICLES.contains(word)).or_else(|| named.len().checked_sub(1))?;
        Self::of(&named[..at], &named[at..])
    }

    /// A thing that is to become another, or only to be `otherwise`.
    fn of(thing: &[&str], otherwise: &[&str]) -> Option<Self> {
        let (first, rest) = otherwise.split_first()?;
        if thing.is_empty() {
            return None;
        }
        let prompt = match rest {
            [] => {
                // The thing as it is called, but for the colour that it has now.
                let is_color = COLORS.contains(first);
                let kept = thing.iter().filter(|word| !(is_color && COLORS.contains(word)));
                let words = [*first].into_iter().chain(kept.copied()).collect::<Vec<_>>();
                // It is called by nothing but a colour, or the rule would ask for "blue" alone.
                (words.len() > 1).then(|| with_article(&words.join(" ")))?
            }
            rest if ARTICLES.contains(first) => with_article(&rest.join(" ")),
            rest => with_article(&[&[*first], rest].concat().join(" ")),
        };
        Some(Self { target: thing.join(" "), prompt })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(String, String)> {
        Instruction::read(text).map(|Instruction { target, prompt }| (target, prompt))
    }

    #[test]
    fn a_thing_and_what_it_is_to_be() {
        for (text, target, prompt) in [
            ("make the circle blue", "circle", "a blue circle"),
            ("Make the RED circle blue.", "red circle", "a blue circle"),
            ("please paint the large red circle orange!", "large red circle", "an orange large circle"),
            ("make the circle a square", "circle", "a square"),
            ("turn the cat into a dog", "cat", "a dog"),
            ("change the red circle to blue", "red circle", "a blue circle"),
            ("replace the circle with a red square", "circle", "a red square"),
            ("replace the circle with an old car", "circle", "an old car"),
            ("swap the circle for small red squares", "circle", "a small red squares"),
            ("make the sky cloudy", "sky", "a cloudy sky"),
        ] {
            assert_eq!(read(text), Some((target.to_owned(), prompt.to_owned())), "{text}");
        }
    }

    #[test]
    fn what_no_rule_knows_is_none() {
        for text in [
            "",
            "blue",
            "make",
            "make it blue",
            "make the",
            "make the blue",
            "make the red blue",
            "the circle blue",
            "replace the circle",
            "replace the circle with",
            "turn the into a dog",
            "remove the circle",
            "make blue",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(read(&"make the red circle blue ".repeat(100)), None);
    }
}

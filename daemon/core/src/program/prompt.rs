//! What a prompt claims, one thing after the other, as far as a few rules of English tell.
//!
//! A prompt is read as things ("a large red circle") and, between two neighbours, how they stand ("left of"). What no rule
//! knows is passed over; a prompt of which nothing is known claims no more than itself.

/// What a prompt claims.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prompt {
    /// The things it names, in its order.
    pub things: Vec<Thing>,
    /// How they stand: thing `i` to thing `i + 1`.
    pub relations: Vec<(usize, Relation)>,
    /// True if it says nothing beside these, so that it can be put in other words.
    pub plain: bool,
}

/// Some things of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thing {
    /// How many.
    pub count: u8,
    /// The words before the noun, such as `large`; the colour is not among them.
    pub attributes: Vec<String>,
    /// Its colour, if it is said.
    pub color: Option<String>,
    /// What it is, as the prompt has it.
    pub noun: String,
}

/// How one thing stands to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// `left of`
    Left,
    /// `right of`
    Right,
    /// `above`
    Above,
    /// `below`
    Below,
}

impl Relation {
    /// The same, seen from the other thing.
    pub fn inverse(self) -> Self {
        match self {
            Self::Left => Self::Right,
            Self::Right => Self::Left,
            Self::Above => Self::Below,
            Self::Below => Self::Above,
        }
    }

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Left => "left of",
            Self::Right => "right of",
            Self::Above => "above",
            Self::Below => "below",
        }
    }
}

/// Words that begin a thing, and how many there are of it.
const COUNTS: &[(&str, u8)] = &[
    ("a", 1),
    ("an", 1),
    ("one", 1),
    ("two", 2),
    ("three", 3),
    ("four", 4),
    ("five", 5),
    ("six", 6),
    ("seven", 7),
    ("eight", 8),
    ("nine", 9),
];
pub(super) const COLORS: &[&str] = &[
    "red", "green", "blue", "yellow", "teal", "gray", "grey", "black", "white", "brown", "purple", "orange", "pink",
    "cyan", "magenta", "gold", "silver",
];
const RELATIONS: &[(&str, Relation)] = &[
    ("left of", Relation::Left),
    ("to the left of", Relation::Left),
    ("on the left of", Relation::Left),
    ("right of", Relation::Right),
    ("to the right of", Relation::Right),
    ("on the right of", Relation::Right),
    ("above", Relation::Above),
    ("over", Relation::Above),
    ("on top of", Relation::Above),
    ("below", Relation::Below),
    ("under", Relation::Below),
    ("beneath", Relation::Below),
];
/// Words that end a thing. A word in `-ing` does, too, but for these nouns.
const ENDS: &[&str] = &[
    "of", "at", "in", "on", "to", "by", "and", "or", "with", "without", "near", "next", "beside", "behind", "before",
    "between", "under", "over", "above", "below", "beneath", "inside", "outside", "from", "for", "left", "right",
    "the", "that", "which", "who", "is", "are", "has", "while", "as", "into", "through", "against", "around",
];
const IN_ING: &[&str] =
    &["building", "ceiling", "king", "painting", "ring", "spring", "string", "swing", "thing", "wing", "wedding"];
/// What a picture is called, which is nothing in it.
const PICTURES: &[&str] = &["photo", "photograph", "picture", "image", "painting", "drawing", "sketch", "render"];
/// The most words of a thing, and the most things that are looked at.
const MOST_WORDS: usize = 4;
const MOST_THINGS: usize = 4;

impl Prompt {
    /// Reads a prompt.
    pub fn read(text: &str) -> Self {
        let lower = text.to_lowercase();
        let words: Vec<&str> =
            lower.split(|c: char| !(c.is_alphanumeric() || c == '-')).filter(|w| !w.is_empty()).collect();
        let mut prompt = Self { plain: true, ..Self::default() };
        // Words since the last thing, or since the beginning.
        let mut between: Vec<&str> = Vec::new();
        let mut at = 0;
        while at < words.len() {
            match Thing::read(&words[at..]).filter(|_| prompt.things.len() < MOST_THINGS) {
                Some((thing, length)) => {
                    prompt.join(&between);
                    between.clear();
                    at += length;
                    if PICTURES.contains(&thing.noun.as_str()) {
                        prompt.plain = false;
                    } else {
                        prompt.things.push(thing);
                    }
                }
                None => {
                    between.push(words[at]);
                    at += 1;
                }
            }
        }
        prompt.plain &= between.is_empty() && !prompt.things.is_empty();
        prompt
    }

    /// Takes in what stands between the last thing and the one that follows.
    fn join(&mut self, between: &[&str]) {
        let words = between.join(" ");
        let relation = RELATIONS.iter().find(|(phrase, _)| *phrase == words);
        match (self.things.len().checked_sub(1), relation) {
            (Some(last), Some((_, relation))) => self.relations.push((last, *relation)),
            (Some(_), None) => self.plain &= words == "and",
            (None, _) => self.plain &= words.is_empty(),
        }
    }
}

impl Thing {
    /// Reads a thing at the beginning of `words`, and how many of them it takes.
    fn read(words: &[&str]) -> Option<(Self, usize)> {
        let (first, rest) = words.split_first()?;
        let (_, count) = COUNTS.iter().find(|(word, _)| word == first)?;
        let is_verb = |word: &str| word.ends_with("ing") && !IN_ING.contains(&word);
        let is_end =
            |word: &&str| ENDS.contains(word) || is_verb(word) || COUNTS.iter().any(|(first, _)| first == word);
        let length = rest.iter().position(is_end).unwrap_or(rest.len());
        let (noun, before) = rest[..length].split_last().filter(|_| length <= MOST_WORDS)?;
        let color = before.iter().position(|word| COLORS.contains(word));
        let others = before.iter().enumerate().filter(|(place, _)| Some(*place) != color);
        let attributes = others.map(|(_, word)| (*word).to_owned()).collect();
        let color = color.map(|place| before[place].to_owned());
        Some((Self { count: *count, attributes, color, noun: (*noun).to_owned() }, 1 + length))
    }

    /// Colour and noun, such as `red circle`.
    pub fn name(&self) -> String {
        self.color.iter().map(String::as_str).chain([self.noun.as_str()]).collect::<Vec<_>>().join(" ")
    }

    /// As a prompt says it, such as `a large red circle`.
    pub fn phrase(&self) -> String {
        let words: Vec<&str> = self.attributes.iter().map(String::as_str).collect();
        let name = self.name();
        let words = [words.as_slice(), &[name.as_str()]].concat().join(" ");
        match self.count {
            1 => with_article(&words),
            count => {
                let word = COUNTS.iter().rev().find(|(_, of)| *of == count).map_or("some", |(word, _)| *word);
                format!("{word} {words}")
            }
        }
    }
}

/// `a` or `an` before it.
pub(super) fn with_article(words: &str) -> String {
    let article = if words.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {words}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        Prompt::read(text).things.iter().map(Thing::name).collect()
    }

    #[test]
    fn things_are_read_with_their_words() {
        let prompt = Prompt::read("A large red circle, to the left of an orange square");
        assert_eq!(prompt.relations, [(0, Relation::Left)]);
        assert!(prompt.plain);
        let said: Vec<String> = prompt.things.iter().map(Thing::phrase).collect();
        assert_eq!(said, ["a large red circle", "an orange square"]);
        assert_eq!(Prompt::read("three cats").things[0].phrase(), "three cats");
    }

    #[test]
    fn what_no_rule_knows_is_passed_over() {
        assert_eq!(names("a photo of an astronaut riding a white horse on mars"), ["astronaut", "white horse"]);
        assert_eq!(names("the sea at night"), Vec::<String>::new());
        assert!(!Prompt::read("a photo of a cat").plain);
        assert!(!Prompt::read("a red circle at the top left").plain);
        assert!(!Prompt::read("").plain);
        let prompt = Prompt::read("a dog chasing a cat");
        assert_eq!((prompt.relations, prompt.plain), (Vec::new(), false));
        // It is a rule of thumb.
        assert_eq!(names("a very long and winding road"), ["long"]);
        assert_eq!(names("a very very long old stony road"), Vec::<String>::new());
        assert_eq!(names("a king in a red building"), ["king", "red building"]);
    }

    #[test]
    fn relations_have_two_sides() {
        for relation in [Relation::Left, Relation::Right, Relation::Above, Relation::Below] {
            assert_eq!(relation.inverse().inverse(), relation);
            let text = format!("a cat {} a dog", relation.words());
            assert_eq!(Prompt::read(&text).relations, [(0, relation)]);
        }
        assert!(Prompt::read("a cat and a dog").relations.is_empty());
    }

    #[test]
    fn it_reads_anything() {
        let words = "a two of left red";
        for text in
            ["a", "a a a", "two", "a -", "an \u{e9}l\u{e9}phant", "one one two of of", words, &words.repeat(500)]
        {
            assert!(Prompt::read(text).things.len() <= MOST_THINGS, "{text}");
        }
    }
}

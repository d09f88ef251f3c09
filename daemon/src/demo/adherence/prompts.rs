//! What is asked for, always the same: `models/training/make_prompts.py` wrote it down.

use std::fmt;

use anyhow::Context as _;
use clap::ValueEnum;
use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::super::checker::{Kind, Relation, SIDE, find, shows, stand};
use super::super::scene::{Shape, draw};

/// What a prompt is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum Subject {
    /// One shape, for example "a red circle".
    Single,
    /// Two shapes in a relation, for example "a red circle left of a blue square".
    Pair,
}

/// A prompt and the scene that it was made from.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Prompt {
    pub(super) prompt: String,
    shapes: Vec<Shape>,
    /// Where the first shape lies, seen from the second, if the prompt says so.
    relation: Option<Relation>,
    /// True if no picture of the training showed this combination.
    pub(super) held_out: bool,
}

/// All prompts, each kind in an order of which every 20 in a row have as many that are held out.
#[derive(Debug, Deserialize)]
pub(super) struct Prompts {
    single: Vec<Prompt>,
    pair: Vec<Prompt>,
}

impl Subject {
    /// All of them.
    pub(super) const ALL: [Self; 2] = [Self::Single, Self::Pair];
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Single => "single",
            Self::Pair => "pair",
        })
    }
}

impl Prompts {
    pub(super) fn load() -> anyhow::Result<Self> {
        serde_json::from_str(include_str!("prompts.json")).context("the prompts of this build cannot be read")
    }

    pub(super) fn of(&self, subject: Subject) -> &[Prompt] {
        match subject {
            Subject::Single => &self.single,
            Subject::Pair => &self.pair,
        }
    }
}

impl Prompt {
    /// Whether the picture shows the shapes and nothing else, and they stand as asked.
    pub(super) fn is_shown_by(&self, picture: &RgbImage) -> bool {
        let found = find(picture);
        let wanted: Vec<(&str, Kind)> = self.shapes.iter().map(|shape| (shape.color.as_str(), shape.kind)).collect();
        let related = match (self.relation, self.shapes.as_slice()) {
            (Some(relation), [a, b]) => stand(&found, &a.color, relation, &b.color),
            (Some(_), _) => false,
            (None, _) => true,
        };
        related && shows(&found, &wanted)
    }

    /// Whether a perfect picture of the scene passes.
    pub(super) fn is_shown_by_its_scene(&self) -> bool {
        self.is_shown_by(&draw(&self.shapes, SIDE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_in_twenty_rows_of_each_kind_has_three_that_are_held_out() {
        let prompts = Prompts::load().expect("prompts");
        for subject in Subject::ALL {
            let all = prompts.of(subject);
            assert_eq!(all.len(), 500);
            for rows in all.chunks(20) {
                assert_eq!(rows.iter().filter(|prompt| prompt.held_out).count(), 3, "{subject}");
            }
        }
    }

    #[test]
    fn prompts_are_words_for_their_scenes() {
        let prompts = Prompts::load().expect("prompts");
        for (subject, shapes) in [(Subject::Single, 1), (Subject::Pair, 2)] {
            for prompt in prompts.of(subject) {
                assert_eq!((prompt.shapes.len(), prompt.relation.is_some()), (shapes, subject == Subject::Pair));
                let named = |shape: &Shape| prompt.prompt.contains(&format!("{} {}", shape.color, shape.kind));
                assert!(prompt.shapes.iter().all(named), "{}", prompt.prompt);
            }
        }
    }

    #[test]
    fn a_perfect_picture_passes_nearly_always() {
        let prompts = Prompts::load().expect("prompts");
        for subject in Subject::ALL {
            let passed = prompts.of(subject).iter().filter(|prompt| prompt.is_shown_by_its_scene()).count();
            assert!(passed >= 495, "{subject}: {passed} of 500");
        }
    }

    #[test]
    fn the_shapes_of_another_prompt_or_swapped_ones_do_not_pass() {
        let prompts = Prompts::load().expect("prompts");
        let pair = prompts.of(Subject::Pair).first().expect("a pair");
        let mut swapped = pair.clone();
        let [a, b] = swapped.shapes.as_mut_slice() else { panic!("two shapes") };
        (a.x, a.y, b.x, b.y) = (b.x, b.y, a.x, a.y);
        let picture = draw(&swapped.shapes, SIDE);
        assert!(pair.is_shown_by_its_scene() && !pair.is_shown_by(&picture));
        let single = prompts.of(Subject::Single).first().expect("a single");
        assert!(!single.is_shown_by(&picture));
    }
}

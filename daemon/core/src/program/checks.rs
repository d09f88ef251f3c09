//! The questions that a prompt is checked by: one for each thing it claims, in the manner of TIFA (Hu et al., ICCV 2023) and
//! the Davidsonian Scene Graph (Cho et al., ICLR 2024), or, where no claim is found, one about the prompt as a whole, in the
//! manner of VQAScore (Lin et al., ECCV 2024).

use gpusched_shared::reflect::{MAX_CHECKS, MAX_QUESTION_BYTES};
use gpusched_shared::{Check, Claim};

use super::prompt::{Prompt, Thing, with_article};

/// Kinds of shape: together they are counted as shapes, for a picture of one shows nothing else.
const SHAPES: &[&str] = &["circle", "square", "triangle", "rectangle"];

/// What to ask of a picture made from `text`; at least one question, at most [`MAX_CHECKS`].
pub fn derive(text: &str) -> Vec<Check> {
    let prompt = Prompt::read(text);
    let things = &prompt.things;
    let mut checks = Vec::new();
    for (index, thing) in (0u8..).zip(things) {
        let about = Claim::Object { index };
        if thing.count == 1 {
            checks.push(check(format!("is there {}?", with_article(&thing.name())), "yes", about));
        } else if unique(things, thing) {
            checks.push(check(format!("how many {} are there?", thing.noun), &thing.count.to_string(), Claim::Count));
        }
        if let Some(color) = thing.color.as_deref().filter(|_| thing.count == 1 && unique(things, thing)) {
            checks.push(check(format!("what color is the {}?", thing.noun), color, about));
        }
    }
    if !things.is_empty() && things.iter().all(|thing| thing.count == 1 && SHAPES.contains(&thing.noun.as_str())) {
        checks.push(check("how many shapes are there?".to_owned(), &things.len().to_string(), Claim::Count));
    }
    for (first, relation) in &prompt.relations {
        let (a, b) = (&things[*first], &things[first + 1]);
        if a.count == 1 && b.count == 1 {
            let question = |a: &Thing, words, b: &Thing| format!("is the {} {words} the {}?", a.name(), b.name());
            checks.push(check(question(a, relation.words(), b), "yes", Claim::Relation));
            checks.push(check(question(b, relation.words(), a), "no", Claim::Relation));
        }
    }
    checks.retain(|check| check.question.len() <= MAX_QUESTION_BYTES);
    if checks.is_empty() {
        let mut shown = text.trim().to_lowercase();
        shown.truncate(shown.floor_char_boundary(MAX_QUESTION_BYTES - "does the image show ?".len()));
        checks.push(check(format!("does the image show {shown}?"), "yes", Claim::Whole));
    }
    checks.truncate(MAX_CHECKS);
    checks
}

/// Whether no other thing has the same noun, so that it can be spoken of without its colour.
fn unique(things: &[Thing], thing: &Thing) -> bool {
    things.iter().filter(|other| other.noun == thing.noun).count() == 1
}

fn check(question: String, answer: &str, claim: Claim) -> Check {
    Check { question, answer: answer.to_owned(), claim }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> Vec<String> {
        derive(text).into_iter().map(|check| format!("{} {}", check.question, check.answer)).collect()
    }

    #[test]
    fn each_claim_is_asked_for() {
        let expected = [
            "is there a red circle? yes",
            "what color is the circle? red",
            "is there a blue square? yes",
            "what color is the square? blue",
            "how many shapes are there? 2",
            "is the red circle left of the blue square? yes",
            "is the blue square left of the red circle? no",
        ];
        assert_eq!(asked("a red circle to the left of a blue square"), expected);
    }

    #[test]
    fn what_two_things_share_tells_nothing() {
        let expected = ["is there a red circle? yes", "is there a blue circle? yes", "how many shapes are there? 2"];
        assert_eq!(asked("a red circle and a blue circle"), expected);
        assert_eq!(asked("two red apples and an orange"), ["how many apples are there? 2", "is there an orange? yes"]);
    }

    #[test]
    fn without_a_claim_the_whole_is_asked_for() {
        let checks = derive(" Sunset over the SEA ");
        assert_eq!(checks, [check("does the image show sunset over the sea?".to_owned(), "yes", Claim::Whole)]);
        let long = derive(&"\u{e9}".repeat(5000));
        assert!(long.len() == 1 && long[0].question.len() <= MAX_QUESTION_BYTES);
    }
}

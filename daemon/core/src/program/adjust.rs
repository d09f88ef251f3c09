//! What the next round changes, by what failed in the rounds before it. Pure: the same history gives the same round.
//!
//! The seed is new in every round; that alone repairs most failures. Beyond that:
//!
//! | what failed | what is changed |
//! | --- | --- |
//! | a thing | guidance goes up; of two things in a relation it is named first; of others it is named once more |
//! | how two things stand | the prompt says it the other way round, every other time |
//! | anything, from the third round on | more steps |

use gpusched_shared::mix::{STEP, mix};
use gpusched_shared::spec::{GUIDANCE, MAX_TEXT_BYTES, STEPS};
use gpusched_shared::{Check, Claim, ImageSpec};

use super::prompt::{Prompt, Thing};

/// Each round in which a thing failed adds so much guidance, up to `MOST_GUIDANCE` times what was asked for.
const MORE_GUIDANCE: f32 = 0.5;
const MOST_GUIDANCE: f32 = 1.5;
/// From the third round on there are so many times the steps that were asked for.
const MORE_STEPS: f32 = 1.25;

/// What to make in round `number`, from 2. `failed` are the checks that each earlier round failed.
pub fn adjust(asked: &ImageSpec, number: u8, failed: &[Vec<&Check>]) -> ImageSpec {
    let last: &[&Check] = failed.last().map_or(&[], Vec::as_slice);
    let things_failed = failed.iter().filter(|round| round.iter().any(|check| is_of_thing(check.claim))).count();
    let guided = |guidance: f32| {
        let more = guidance + MORE_GUIDANCE * things_failed as f32;
        // Without guidance a model was not made for it.
        if guidance <= 1.0 { guidance } else { more.min(guidance * MOST_GUIDANCE).min(*GUIDANCE.end()) }
    };
    let stepped = |steps: u32| {
        let more = (steps as f32 * MORE_STEPS).round() as u32;
        if number < 3 { steps } else { more.min(*STEPS.end()).max(steps) }
    };
    ImageSpec {
        prompt: reword(&asked.prompt, number, last),
        seed: asked.seed.map(|seed| reseed(seed, number)),
        steps: asked.steps.map(stepped),
        size: asked.size,
        guidance: asked.guidance.map(guided),
    }
}

/// A seed for the round; 32 bits, short enough to read out.
fn reseed(seed: u64, number: u8) -> u64 {
    mix(seed ^ STEP.wrapping_mul(u64::from(number))) >> 32
}

fn is_of_thing(claim: Claim) -> bool {
    matches!(claim, Claim::Object { .. } | Claim::Whole)
}

/// The prompt in words that stress what failed. One that is nothing but things and how they stand is put in other words;
/// to any other, what failed is added.
fn reword(asked: &str, number: u8, failed: &[&Check]) -> String {
    let prompt = Prompt::read(asked);
    let reworded = match (prompt.things.as_slice(), prompt.relations.as_slice()) {
        ([a, b], [(0, relation)]) if prompt.plain => {
            let forward = format!("{} {} {}", a.phrase(), relation.words(), b.phrase());
            let backward = format!("{} {} {}", b.phrase(), relation.inverse().words(), a.phrase());
            let fails = |index| failed.iter().any(|check| check.claim == Claim::Object { index });
            // What comes first is drawn best; where both or neither failed, the two take turns.
            match (fails(0), fails(1)) {
                (true, false) => forward,
                (false, true) => backward,
                _ if number.is_multiple_of(2) => backward,
                _ => forward,
            }
        }
        ([_], []) if prompt.plain && !failed.iter().any(|check| check.claim == Claim::Given) => asked.to_owned(),
        (things, _) => stressed(asked, things, failed),
    };
    if reworded.len() > MAX_TEXT_BYTES { asked.to_owned() } else { reworded }
}

/// The prompt, and once more what of it failed.
fn stressed(asked: &str, things: &[Thing], failed: &[&Check]) -> String {
    let mut words: Vec<String> = Vec::new();
    for check in failed {
        let said = match check.claim {
            Claim::Object { index } => things.get(usize::from(index)).map(Thing::phrase),
            Claim::Given => statement(check),
            Claim::Count | Claim::Relation | Claim::Whole => None,
        };
        words.extend(said.filter(|said| !words.contains(said)));
    }
    if words.is_empty() { asked.to_owned() } else { format!("{}, with {}", asked.trim_end(), words.join(" and ")) }
}

/// What a client's own check asks for, where that can be told: `is there a red circle?` with `yes` is `a red circle`.
fn statement(check: &Check) -> Option<String> {
    let question = check.question.trim().trim_end_matches('?').to_lowercase();
    let asked = check.answer.trim().eq_ignore_ascii_case("yes");
    question.strip_prefix("is there ").filter(|_| asked).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::checks::derive;

    fn asked(prompt: &str) -> ImageSpec {
        ImageSpec { seed: Some(7), steps: Some(20), guidance: Some(3.0), ..ImageSpec::new(prompt) }
    }

    /// The prompts of the rounds after the first if in every round the checks with these claims fail.
    fn prompts(prompt: &str, claims: &[Claim]) -> Vec<String> {
        let checks = derive(prompt);
        let failed: Vec<&Check> = checks.iter().filter(|check| claims.contains(&check.claim)).collect();
        (2..=4)
            .map(|number| adjust(&asked(prompt), number, &vec![failed.clone(); usize::from(number) - 1]).prompt)
            .collect()
    }

    #[test]
    fn what_failed_comes_first() {
        let prompt = "a red circle to the left of a blue square";
        let (forward, backward) = ("a red circle left of a blue square", "a blue square right of a red circle");
        assert_eq!(prompts(prompt, &[Claim::Object { index: 0 }]), [forward; 3]);
        assert_eq!(prompts(prompt, &[Claim::Object { index: 1 }]), [backward; 3]);
        assert_eq!(prompts(prompt, &[Claim::Relation]), [backward, forward, backward]);
        assert_eq!(prompts("a red circle", &[Claim::Object { index: 0 }]), ["a red circle"; 3]);
    }

    #[test]
    fn where_the_prompt_says_more_what_failed_is_added() {
        let said = prompts("a photo of a cat on a sofa", &[Claim::Object { index: 1 }]);
        assert_eq!(said, ["a photo of a cat on a sofa, with a sofa"; 3]);
        let given = Check { question: "Is there a red hat?".to_owned(), answer: "yes".to_owned(), claim: Claim::Given };
        assert_eq!(adjust(&asked("a dog"), 2, &[vec![&given]]).prompt, "a dog, with a red hat");
        let long = format!("{} a cat, a dog", "x ".repeat(MAX_TEXT_BYTES / 2 - 10));
        assert!(prompts(&long, &[Claim::Object { index: 0 }]).iter().all(|prompt| prompt.len() <= MAX_TEXT_BYTES));
    }

    #[test]
    fn every_round_has_a_seed_of_its_own() {
        let mut seeds: Vec<Option<u64>> = (2..=8).map(|number| adjust(&asked("x"), number, &[]).seed).collect();
        seeds.push(Some(7));
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), 8);
    }

    #[test]
    fn guidance_and_steps_stay_within_limits() {
        let failed: Vec<Check> = derive("a red circle");
        let failed = vec![failed.iter().collect::<Vec<_>>(); 7];
        let at = |number: u8| adjust(&asked("a red circle"), number, &failed[..usize::from(number) - 1]);
        assert_eq!((at(2).guidance, at(2).steps), (Some(3.5), Some(20)));
        assert_eq!((at(3).guidance, at(3).steps), (Some(4.0), Some(25)));
        assert_eq!((at(8).guidance, at(8).steps), (Some(4.5), Some(25)));
        let unguided = ImageSpec { guidance: Some(1.0), ..asked("a red circle") };
        assert_eq!(adjust(&unguided, 8, &failed).guidance, Some(1.0));
    }
}

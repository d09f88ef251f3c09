//! What a job was asked for, and what came of its stages, in words.

use gpusched_client::shared::{EditSpec, Found, InpaintSpec, StageView};
use gpusched_client::{ImageSpec, Outcome, Task};

use super::job::{Lines, micros};
use super::{clean, table};

/// What it was asked for, a line for each thing that was said.
pub(super) fn asked(task: &Task, lines: &mut Lines) {
    match task {
        Task::Txt2Img(image) | Task::Img2Img(image) => picture(image, lines),
        Task::Inpaint(InpaintSpec { image, grow }) => {
            picture(image, lines);
            lines.extend(grow.map(|grow| ("grown by", format!("{grow} pixels"))));
        }
        Task::Vqa(vqa) => lines.push(("question", clean(&vqa.question))),
        Task::Detect(detect) => {
            lines.push(("looks for", clean(&detect.query)));
            lines.extend(detect.threshold.map(|threshold| ("threshold", threshold.to_string())));
        }
        Task::Segment(segment) => {
            lines.extend(segment.area.map(|area| ("area", area.to_string())));
            lines.extend(segment.points.iter().map(|point| {
                (if point.inside { "inside" } else { "outside" }, format!("{:.0},{:.0}", point.x, point.y))
            }));
        }
        Task::Edit(edit) => edited(edit, lines),
        Task::Analyze(analyze) => {
            lines.push(("prompt", clean(&analyze.prompt)));
            lines.extend(analyze.max_tokens.map(|tokens| ("tokens", format!("{tokens} at most"))));
        }
        Task::Score(score) => lines.push(("text", clean(&score.text))),
    }
}

fn edited(edit: &EditSpec, lines: &mut Lines) {
    lines.push(("asks to", clean(&edit.instruction)));
    let texts = [
        ("looks for", &edit.target),
        ("prompt", &edit.prompt),
        ("detector", &edit.detector),
        ("segmenter", &edit.segmenter),
    ];
    lines.extend(texts.into_iter().filter_map(|(name, text)| Some((name, clean(text.as_deref()?)))));
    lines.extend(edit.threshold.map(|threshold| ("threshold", threshold.to_string())));
    lines.extend(edit.grow.map(|grow| ("grown by", format!("{grow} pixels"))));
    lines.extend(edit.steps.map(|steps| ("steps", steps.to_string())));
    lines.extend(edit.seed.map(|seed| ("seed", seed.to_string())));
    lines.extend(edit.guidance.map(|guidance| ("guidance", guidance.to_string())));
}

fn picture(image: &ImageSpec, lines: &mut Lines) {
    lines.push(("prompt", clean(&image.prompt)));
    lines.extend(image.size.map(|size| ("size", size.to_string())));
    lines.extend(image.steps.map(|steps| ("steps", steps.to_string())));
    lines.extend(image.seed.map(|seed| ("seed", seed.to_string())));
    lines.extend(image.guidance.map(|guidance| ("guidance", guidance.to_string())));
}

/// What came of a stage of an edit, in a line; nothing where the edit itself says it.
pub(crate) fn stage(stage: &StageView) -> Option<String> {
    let took = micros(stage.run_us);
    let model = clean(stage.spec.model.as_deref().unwrap_or("-"));
    let said = match stage.outcome.as_ref()? {
        Outcome::Found(found) => match found.as_slice() {
            [] => "found nothing".to_owned(),
            [best, rest @ ..] => {
                let more = if rest.is_empty() { String::new() } else { format!(", and {} less sure of", rest.len()) };
                format!("found it at {}, sure to {:.2}{more}", best.area, best.score)
            }
        },
        Outcome::Mask { inside, size, score, .. } => format!("{inside} of {size} pixels are of it, sure to {score:.2}"),
        Outcome::Image { .. } => "made them anew".to_owned(),
        Outcome::Answers(_)
        | Outcome::Text { .. }
        | Outcome::Score(_)
        | Outcome::Failed { .. }
        | Outcome::Cancelled
        | Outcome::Expired { .. } => return None,
    };
    Some(format!("{} ({model}, {took}): {said}", stage.role.word()))
}

/// What was found, as a table.
pub(crate) fn found(found: &[Found]) -> String {
    let rows = found.iter().map(|Found { area, score }| vec![area.to_string(), format!("{score:.3}")]).collect();
    table(&["AREA", "SCORE"], rows)
}

//! Stages that make a text.

use gpusched_models::qwen3::{Qwen3, Request};
use gpusched_shared::AnalyzeSpec;
use gpusched_shared::view::Activity;

use crate::event::{Event, Product};
use crate::stage::{Stopped, open};
use crate::yield_point::LaneYield;

/// What the model answers. Each time that more of it is certain, it is said how far it is and then what it says so far, so that
/// the text is the latest news for as long as the next token takes.
pub(crate) fn analyze(model: &Qwen3, asked: &AnalyzeSpec, at: &LaneYield<'_>) -> Result<Product, Stopped> {
    let most = asked.max_tokens.ok_or_else(open)?;
    let request = Request { question: &asked.prompt, max_tokens: most as usize };
    let mut so_far = String::new();
    let mut say = |piece: &str, tokens: u32| {
        so_far.push_str(piece);
        at.tell(Activity::Working { done: tokens, of: most });
        let text = at.handing_out(|| so_far.clone());
        at.say(Event::Wrote { job: at.job, text, tokens });
    };
    let answer = model.answer(&request, &mut say, at)?;
    // A question that is too long has been refused, not cut.
    Ok(at.handing_out(|| Product::Text {
        text: answer.text.clone(),
        tokens: answer.tokens,
        complete: answer.complete,
        truncated_tokens: 0,
    }))
}

//! Qwen3 as a language model against transformers. `models/fixtures/make_qwen3.py` made the inputs and outputs.

use gpusched_models::{
    Error, Kind, Site, Unobserved,
    qwen3::{
        Qwen3, Request,
        model::{MAX_ANSWER_TOKENS, MAX_PROMPT_TOKENS},
    },
    scan,
};

use crate::{CPU, DType, Io, Stage, Tensor, behaviour::Observer, fixture};

fn model(name: &str) -> Qwen3 {
    Qwen3::load(&fixture(name), &CPU, DType::F32, &Unobserved).unwrap()
}

/// Compares all cases of a fixture: tokens of the question, logits of the first token of the answer, of those after it with
/// what the cache holds, and the answer itself.
fn compare(name: &str, stages: [&'static str; 2]) {
    let (io, model) = (Io::of(name), model(name));
    let [mut first, mut later] = stages.map(Stage::new);
    for (case, notes) in io.notes["cases"].as_object().unwrap() {
        let question = notes["prompt"].as_str().unwrap();
        let (ids, answer) = (io.ids(&format!("{case}.ids")), io.ids(&format!("{case}.answer")));
        assert_eq!(model.chat().tokens(question).unwrap(), ids, "{case}");
        let logits = io.get(&format!("{case}.logits"));
        let mut context = model.begin().unwrap();
        for (i, token) in answer.iter().enumerate() {
            let read = if i == 0 { &ids[..] } else { &answer[i - 1..i] };
            let got = context.read(read, &Unobserved).unwrap();
            let likeliest = (0..got.len()).max_by(|&a, &b| got[a].total_cmp(&got[b])).unwrap();
            assert_eq!(likeliest, *token as usize, "{case}, token {i}");
            let got = Tensor::from_vec(got, logits.dim(1).unwrap(), &CPU).unwrap();
            if i == 0 { &mut first } else { &mut later }.compare(&got, &logits.get(i).unwrap());
        }

        let most = notes["most"].as_u64().unwrap() as usize;
        let mut pieces = Vec::new();
        let mut say = |piece: &str, tokens: u32| pieces.push((piece.to_owned(), tokens));
        let got = model.answer(&Request { question, max_tokens: most }, &mut say, &Unobserved).unwrap();
        assert_eq!(got.text, notes["text"].as_str().unwrap(), "{case}");
        assert_eq!(pieces.iter().map(|(piece, _)| piece.as_str()).collect::<String>(), got.text, "{case}");
        assert!(
            pieces.is_sorted_by_key(|(_, tokens)| *tokens) && pieces.iter().all(|(_, tokens)| *tokens <= got.tokens)
        );
        let complete = notes["complete"].as_bool().unwrap();
        assert_eq!((got.complete, got.tokens as usize), (complete, answer.len() - usize::from(complete)), "{case}");
        assert_eq!(got.prompt_tokens as usize, ids.len());
    }
}

#[test]
fn answers() {
    compare("qwen3", ["Qwen3, logits of the first token", "Qwen3, logits of later tokens, by the cache"]);
}

#[test]
fn answers_of_another_head() {
    compare(
        "qwen3-untied",
        ["Qwen3, biases, own head, bf16 file, first token", "Qwen3, biases, own head, bf16 file, later tokens"],
    );
}

#[test]
fn a_text_is_read_alike_in_parts() {
    let mut stage = Stage::new("Qwen3, a text in parts and at once");
    let (io, model) = (Io::of("qwen3"), model("qwen3"));
    let ids = io.ids("long.ids");
    for parts in [1, 2, 64, 65, 150, ids.len()] {
        let mut context = model.begin().unwrap();
        let last = ids.chunks(parts).map(|part| context.read(part, &Unobserved).unwrap()).last().unwrap();
        let last = Tensor::from_vec(last, 315, &CPU).unwrap();
        stage.compare(&last, &io.get("long.logits").get(0).unwrap());
    }
    let mut context = model.begin().unwrap();
    for (ids, why) in [(&[][..], "0 tokens"), (&[315], "token 315"), (&[0; 601], "601 tokens")] {
        assert!(matches!(context.read(ids, &Unobserved), Err(Error::Input(said)) if said.contains(why)), "{why}");
    }
}

#[test]
fn characters_are_said_whole() {
    let model = model("qwen3");
    let text = "grün: 図形 😀 e\u{301}<think>";
    let whole = model.chat().tokens(text).unwrap();
    let (mut decoder, mut said) = (model.chat().decoder(), String::new());
    for token in &whole {
        let piece = decoder.push(*token).unwrap().unwrap_or_default();
        assert!(!piece.contains('\u{fffd}'), "{piece:?}");
        said.push_str(&piece);
    }
    assert_eq!(decoder.rest().unwrap(), "");
    // The tokenizer composes what can be composed; special tokens are not said.
    assert!(said.contains("grün: 図形 😀 é<think>") && !said.contains("<|im_end|>"), "{said:?}");

    // What is begun and never ended is said at the end, as what it is.
    let rocket = whole.iter().position(|&token| model_says(&model, token) == "\u{fffd}").unwrap();
    let mut decoder = model.chat().decoder();
    assert_eq!(decoder.push(whole[rocket]).unwrap(), None);
    assert_eq!(decoder.rest().unwrap(), "\u{fffd}");
}

fn model_says(model: &Qwen3, token: u32) -> String {
    let mut decoder = model.chat().decoder();
    let piece = decoder.push(token).unwrap().unwrap_or_default();
    piece + &decoder.rest().unwrap()
}

#[test]
fn interrupted_anywhere_an_answer_unwinds() {
    let model = model("qwen3");
    let request = Request { question: &"blue ".repeat(60), max_tokens: 3 };
    let answer = |observer: &Observer| model.answer(&request, &mut |_, _| {}, observer);
    let whole = Observer::default();
    let answered = answer(&whole).unwrap();
    let sites = whole.sites();
    // Four layers: the question in two parts, and each token but the last.
    let tokens: Vec<_> = sites.iter().filter(|site| matches!(site, Site::Token { .. })).copied().collect();
    assert_eq!(tokens, (0..3).map(|done| Site::Token { done, total: 3 }).collect::<Vec<_>>());
    assert_eq!(sites.iter().filter(|site| **site == Site::Block).count(), 4 * (2 + 2));
    for at in 0..sites.len() {
        assert!(matches!(answer(&Observer::interrupting(at)), Err(Error::Interrupted(_))), "site {at}");
    }
    assert_eq!(answer(&Observer::default()).unwrap(), answered);
}

#[test]
fn bounds_are_said() {
    let model = model("qwen3");
    let ask = |question: &str, max_tokens| model.answer(&Request { question, max_tokens }, &mut |_, _| {}, &Unobserved);
    for (question, max_tokens, why) in [
        ("x", 0, "1 to 4096 tokens, not 0".to_owned()),
        ("x", MAX_ANSWER_TOKENS + 1, "not 4097".to_owned()),
        (&"blue ".repeat(MAX_PROMPT_TOKENS), 1, "the model reads 599".to_owned()),
    ] {
        match ask(question, max_tokens) {
            Err(Error::Input(said)) => assert!(said.contains(&why), "{said}"),
            other => panic!("{other:?}"),
        }
    }
    // The model's positions end before the answer does.
    let tokens = |words| model.chat().tokens(&"blue ".repeat(words)).unwrap().len();
    let words = (0..).take_while(|&words| tokens(words) < 598).last().unwrap();
    let answer = ask(&"blue ".repeat(words), 100).unwrap();
    assert!(answer.complete || answer.tokens + answer.prompt_tokens == 600, "{answer:?}");
}

#[test]
fn a_model_is_built_again_of_its_own_tensors() {
    let model = model("qwen3");
    let again = model.again(&CPU, &|tensor| Ok(tensor.clone())).unwrap();
    let request = Request { question: "a red circle", max_tokens: 12 };
    let answer = |model: &Qwen3| model.answer(&request, &mut |_, _| {}, &Unobserved).unwrap();
    assert_eq!(answer(&again), answer(&model));
}

#[test]
fn it_is_found_by_its_class() {
    let found = scan(&[fixture("")]).unwrap();
    let of_kind: Vec<_> = found.iter().filter(|entry| entry.kind == Kind::Qwen3).map(|e| e.name.as_str()).collect();
    assert_eq!(of_kind, ["qwen3", "qwen3-untied", "text-encoder-bf16"]);
}

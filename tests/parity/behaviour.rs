//! The models as work that can be interrupted, repeated, shared and refused.

use super::*;

/// Notes every site, and interrupts at the one numbered `at`.
#[derive(Default)]
pub(super) struct Observer {
    sites: RefCell<Vec<Site>>,
    at: Cell<Option<usize>>,
}

impl Observer {
    pub(super) fn interrupting(at: usize) -> Self {
        Self { at: Cell::new(Some(at)), ..Self::default() }
    }

    pub(super) fn sites(self) -> Vec<Site> {
        self.sites.into_inner()
    }
}

impl YieldPoint for Observer {
    fn reach(&self, site: Site) -> Result<(), Interrupted> {
        let number = self.sites.borrow().len();
        assert!(self.at.get().is_none_or(|at| number <= at), "work went on after its interruption");
        self.sites.borrow_mut().push(site);
        if self.at.get() == Some(number) { Err(Interrupted) } else { Ok(()) }
    }
}

fn small_request(references: &[Picture]) -> Request<'_> {
    Request { prompt: "a red circle", references, width: 16, height: 24, steps: 2, guidance: 3.0, seed: 9 }
}

#[test]
fn interrupted_anywhere_the_pipeline_unwinds_and_stays_usable() {
    let pipeline = klein();
    let references = [Picture::new(64, 64, vec![90; 64 * 64 * 3]).unwrap()];
    let request = small_request(&references);
    let whole = Observer::default();
    let picture = pipeline.generate(&request, &whole).unwrap().picture;
    let sites = whole.sites.into_inner();
    for at in 0..sites.len() {
        let observer = Observer::interrupting(at);
        assert!(matches!(pipeline.generate(&request, &observer), Err(Error::Interrupted(_))), "site {at}");
        assert_eq!(observer.sites.into_inner(), sites[..=at]);
    }
    assert_eq!(pipeline.generate(&request, &Unobserved).unwrap().picture, picture);

    for kind in [Site::TextEncoderBlock, Site::Block, Site::VaeStage] {
        assert!(sites.contains(&kind), "{kind:?} is never reached");
    }
    let steps: Vec<Site> = sites.into_iter().filter(|site| matches!(site, Site::Step { .. })).collect();
    assert_eq!(steps, (0..=2).map(|done| Site::Step { done, total: 2 }).collect::<Vec<_>>());
}

#[test]
fn interrupted_anywhere_loading_unwinds() {
    let load = |observer: &Observer| Pipeline::load(&fixture("klein"), &CPU, DType::F32, observer).map(drop);
    let whole = Observer::default();
    load(&whole).unwrap();
    let sites = whole.sites.into_inner();
    assert_eq!(sites, (0..=3).map(|done| Site::WeightFile { done, total: 3 }).collect::<Vec<_>>());
    for at in 0..sites.len() {
        assert!(matches!(load(&Observer::interrupting(at)), Err(Error::Interrupted(_))), "site {at}");
    }
}

#[test]
fn interrupted_anywhere_vilt_unwinds() {
    let model = vilt("vilt");
    let picture = Picture::new(30, 40, vec![120; 3600]).unwrap();
    let answer = |observer: &Observer| model.answer(&picture, "how many?", 2, observer);
    let whole = Observer::default();
    let answers = answer(&whole).unwrap();
    let sites = whole.sites.into_inner();
    assert_eq!(sites, [Site::Block; 2]);
    for at in 0..sites.len() {
        assert!(matches!(answer(&Observer::interrupting(at)), Err(Error::Interrupted(_))), "site {at}");
    }
    assert_eq!(answer(&Observer::default()).unwrap(), answers);
}

#[test]
fn the_seed_decides_the_picture() {
    let pipeline = klein();
    let request = small_request(&[]);
    let first = pipeline.generate(&request, &Unobserved).unwrap().picture;
    assert_eq!(pipeline.generate(&request, &Unobserved).unwrap().picture, first);
    assert_ne!(pipeline.generate(&Request { seed: 10, ..request }, &Unobserved).unwrap().picture, first);
}

#[test]
fn half_precision_stays_near() {
    let references = [Picture::new(64, 64, vec![90; 64 * 64 * 3]).unwrap()];
    let request = small_request(&references);
    let exact = klein().generate(&request, &Unobserved).unwrap().picture;
    let picture = Picture::new(30, 40, vec![120; 3600]).unwrap();
    let answer = vilt("vilt").answer(&picture, "how many?", 1, &Unobserved).unwrap();
    // Not bf16: candle has no matrix product in it on the CPU.
    let pipeline = Pipeline::load(&fixture("klein"), &CPU, DType::F16, &Unobserved).unwrap();
    let half = pipeline.generate(&request, &Unobserved).unwrap().picture;
    let differences = half.rgb().iter().zip(exact.rgb()).map(|(a, b)| f64::from(a.abs_diff(*b)));
    let mean = differences.sum::<f64>() / exact.rgb().len() as f64;
    assert!(mean < 1.0, "pixels differ by {mean} of 255 on average");
    let vqa = Vqa::load(&fixture("vilt"), &CPU, DType::F16, &Unobserved).unwrap();
    let half = vqa.answer(&picture, "how many?", 1, &Unobserved).unwrap();
    assert!((half[0].score - answer[0].score).abs() < 0.01, "{half:?} {answer:?}");
}

#[test]
fn models_are_shared_by_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Pipeline>();
    shared::<Vqa>();
}

#[test]
fn impossible_requests_are_input_errors() {
    let pipeline = klein();
    let request = small_request(&[]);
    assert_eq!((pipeline.defaults().side, pipeline.defaults().multiple, pipeline.defaults().text_tokens), (64, 8, 40));
    let narrow = [Picture::new(640, 64, vec![0; 640 * 64 * 3]).unwrap()];
    for (impossible, reason) in [
        (Request { width: 20, ..request }, "multiples of 8"),
        (Request { height: 0, ..request }, "multiples of 8"),
        (Request { width: 8192, height: 8192, ..request }, "area"),
        (Request { steps: 0, ..request }, "steps"),
        (Request { guidance: f64::NAN, ..request }, "guidance"),
        (Request { references: &narrow, ..request }, "narrow"),
    ] {
        match pipeline.generate(&impossible, &Unobserved) {
            Err(Error::Input(text)) => assert!(text.contains(reason), "{text}"),
            other => panic!("{other:?}"),
        }
    }
    let long = Request { prompt: &"small ".repeat(100), ..request };
    assert!(pipeline.generate(&long, &Unobserved).unwrap().truncated_tokens > 50);
}

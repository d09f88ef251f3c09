//! OWLv2: where in a picture is what a text names.
//!
//! Follows transformers' `Owlv2ForObjectDetection` and `Owlv2Processor` (in its form with scipy).
//!
//! Of the open detectors it is this one, and not Grounding DINO, because it is CLIP's two towers with a few linear layers
//! on top: the code is shared with [`clip`](crate::clip), with no second kind of text model and no deformable attention.

pub mod config;
mod footprint;
pub mod model;
pub mod preprocess;
pub mod select;

pub use footprint::{breakdown, footprint};
pub use model::{Owlv2, Request};
pub use select::{Bounds, Detection};

//! Places where running work can be interrupted.
//!
//! The code of the models calls [`YieldPoint::reach`] at short intervals and passes a refusal up unchanged, so the
//! caller gets the thread back within one such interval. Nothing is kept of interrupted work: all tensors of the run
//! are dropped, the weights stay as they were and the next run starts clean.
//!
//! On an accelerator the kernels before a site may only have been queued when it is reached. An observer that needs
//! them finished synchronises the device itself.

/// Where running work may stop: called between diffusion steps, transformer blocks, tokens, VAE stages and weight files.
pub trait YieldPoint {
    /// Work has come to `site`.
    ///
    /// # Errors
    ///
    /// [`Interrupted`] asks the work to unwind.
    fn reach(&self, site: Site) -> Result<(), Interrupted>;
}

/// How far the work has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Site {
    /// Reading a model: reached before each weight file with `done` files read so far, again with the same numbers
    /// within a large file, and once after the last (`done == total`).
    WeightFile {
        /// Files read so far.
        done: u32,
        /// Files of the whole model.
        total: u32,
    },
    /// Before a layer of the text encoder.
    TextEncoderBlock,
    /// Reached before each diffusion step with `done` steps finished so far, and once after the last
    /// (`done == total`).
    Step {
        /// Steps finished so far.
        done: u32,
        /// Steps of the run.
        total: u32,
    },
    /// Before a transformer block.
    Block,
    /// Before each token of an answer.
    Token {
        /// Tokens so far.
        done: u32,
        /// The most that there will be.
        total: u32,
    },
    /// Before a convolution of 3 x 3 or the attention of the VAE's encoder or decoder.
    VaeStage,
}

/// The work was asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted at a yield point")]
pub struct Interrupted;

/// Nobody watches: the work is never interrupted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl YieldPoint for Unobserved {
    fn reach(&self, _site: Site) -> Result<(), Interrupted> {
        Ok(())
    }
}

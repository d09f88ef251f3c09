//! Rotary embeddings: pairs of elements, turned by an angle that depends on their place.

use super::Call;
use super::array::Type;
use crate::model::engine::Effect;

impl Call {
    /// Pairs are neighbours.
    pub(super) fn rotate_pairs(self, kind: Type) -> Option<Effect> {
        let [rows, long, stride] = self.numbers([4, 5, 6])?;
        self.rotate(kind, rows * long / 2, move |pair| {
            let angle = pair % (long / 2) + (2 * pair).checked_div(stride).unwrap_or(0) * (long / 2);
            (2 * pair, 2 * pair + 1, angle)
        })
    }

    /// A pair has one element in each half of a head.
    pub(super) fn rotate_halves(self, kind: Type) -> Option<Effect> {
        let [rows, long, head, stride] = self.numbers([4, 5, 6, 7])?;
        self.rotate(kind, rows * long / 2, move |pair| {
            let (row, within) = (pair / (long / 2), pair % (long / 2));
            let (token, at) = (within / (head / 2), within % (head / 2));
            let first = row * long + token * head + at;
            let angle = token * (head / 2) + at + (2 * pair).checked_div(stride).unwrap_or(0) * (long / 2);
            (first, first + head / 2, angle)
        })
    }

    fn numbers<const N: usize>(&self, at: [usize; N]) -> Option<[usize; N]> {
        let numbers = at.map(|at| self.number(at, Type::U32).map(|number| number as usize));
        numbers.iter().all(Option::is_some).then(|| numbers.map(Option::unwrap_or_default))
    }

    /// `places` has where the two of a pair are, and where the angle is.
    fn rotate(
        self,
        kind: Type,
        pairs: usize,
        places: impl Fn(usize) -> (usize, usize, usize) + Send + 'static,
    ) -> Option<Effect> {
        let (input, cosines, sines, output) =
            (self.array(0, kind)?, self.array(1, kind)?, self.array(2, kind)?, self.array(3, kind)?);
        Some(Box::new(move || {
            for (one, other, angle) in (0..pairs).map(&places) {
                let (x, y, cosine, sine) = (input.get(one), input.get(other), cosines.get(angle), sines.get(angle));
                output.set(one, x * cosine - y * sine);
                output.set(other, x * sine + y * cosine);
            }
            Ok(())
        }))
    }
}

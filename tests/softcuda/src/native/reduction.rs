//! Many elements to one, and rows that are divided by what they come to.

use super::Call;
use super::array::Type;
use crate::model::engine::Effect;

impl Call {
    /// Sums and the like: each result is of as many elements, one after another in the layout's order.
    pub(super) fn reduce(self, root: &str, kind: Type) -> Option<Effect> {
        let (count, each, dims) = (self.size(0)?, self.size(1)?, self.size(2)?);
        let results = if root == "fast_sum_small" { count } else { self.blocks };
        let index = matches!(root, "fast_argmin" | "fast_argmax");
        let (input, output) = (self.array(4, kind)?, self.array(5, if index { Type::U32 } else { kind })?);
        // Whether the first is to be kept rather than the second.
        let keep: fn(f64, f64) -> bool = match root {
            "fast_min" | "fast_argmin" => |kept, new| kept <= new,
            _ => |kept, new| kept >= new,
        };
        let sums = root.starts_with("fast_sum");
        Some(Box::new(move || {
            let layout = self.layout(dims, 3, 0);
            for result in 0..results {
                let element = |at: usize| input.get(layout.place(result * each + at));
                let value = if sums {
                    (0..each).map(element).sum()
                } else {
                    let best = (1..each).fold(0, |best, at| if keep(element(best), element(at)) { best } else { at });
                    if index { best as f64 } else { element(best) }
                };
                output.set(result, value);
            }
            Ok(())
        }))
    }

    pub(super) fn softmax(self, kind: Type) -> Option<Effect> {
        self.rows(kind, 2, |row, _| {
            let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let all: f64 = row.iter().map(|x| (x - most).exp()).sum();
            row.iter_mut().for_each(|x| *x = (*x - most).exp() / all);
        })
    }

    pub(super) fn rms_norm(self, kind: Type) -> Option<Effect> {
        let (weights, epsilon) = (self.array(2, kind)?, self.number(5, Type::F32)?);
        self.rows(kind, 3, move |row, columns| {
            let mean = row.iter().map(|x| x * x).sum::<f64>() / columns;
            row.iter_mut().enumerate().for_each(|(at, x)| *x = *x / (mean + epsilon).sqrt() * weights.get(at));
        })
    }

    pub(super) fn layer_norm(self, kind: Type) -> Option<Effect> {
        let (weights, biases, epsilon) = (self.array(2, kind)?, self.array(3, kind)?, self.number(6, Type::F32)?);
        self.rows(kind, 4, move |row, columns| {
            let mean = row.iter().sum::<f64>() / columns;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / columns;
            let scaled = |x: f64| (x - mean) / (variance + epsilon).sqrt();
            row.iter_mut().enumerate().for_each(|(at, x)| *x = scaled(*x) * weights.get(at) + biases.get(at));
        })
    }

    /// A block for each row, whose length is an argument.
    fn rows(self, kind: Type, columns: usize, change: impl Fn(&mut [f64], f64) + Send + 'static) -> Option<Effect> {
        let columns = self.number(columns, Type::U32)? as usize;
        let (input, output, rows) = (self.array(0, kind)?, self.array(1, kind)?, self.blocks);
        Some(Box::new(move || {
            let mut row = vec![0.0; columns];
            for first in (0..rows).map(|row| row * columns) {
                row.iter_mut().enumerate().for_each(|(at, x)| *x = input.get(first + at));
                change(&mut row, columns as f64);
                row.iter().enumerate().for_each(|(at, x)| output.set(first + at, *x));
            }
            Ok(())
        }))
    }
}

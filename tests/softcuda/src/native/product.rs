//! Products of matrices, as cuBLAS has them: by columns, in batches.

use super::array::{Array, Type};
use crate::model::engine::Effect;

/// One of the matrices of a product.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix {
    pub(crate) address: u64,
    pub(crate) kind: Option<Type>,
    pub(crate) transposed: bool,
    /// From one column to the next, in elements.
    pub(crate) leading: i32,
    /// From one of the batch to the next, in elements.
    pub(crate) stride: i64,
}

/// C becomes `alpha` A B and `beta` C.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Product {
    /// Rows of C, columns of C, and what is summed over.
    pub(crate) sizes: [i32; 3],
    pub(crate) batch: i32,
    pub(crate) alpha: f64,
    pub(crate) beta: f64,
    pub(crate) matrices: [Matrix; 3],
}

impl Product {
    /// What the product does. `None` for types that are not known.
    ///
    /// # Safety
    /// The matrices are there when the effect is, and nobody else is at C.
    pub(crate) unsafe fn effect(self) -> Option<Effect> {
        let [a, b, c] = self.matrices;
        // SAFETY: By this function's own condition.
        let array = |matrix: Matrix| Some(unsafe { Array::new(matrix.address, matrix.kind?) });
        let (left, right, result) = (array(a)?, array(b)?, array(c)?);
        let [rows, columns, inner] = self.sizes.map(|size| usize::try_from(size).unwrap_or_default());
        let batch = usize::try_from(self.batch).ok()?;
        let place = |matrix: Matrix| {
            let (leading, stride) = (matrix.leading.unsigned_abs() as usize, matrix.stride.unsigned_abs() as usize);
            move |nth: usize, row: usize, column: usize| {
                let (row, column) = if matrix.transposed { (column, row) } else { (row, column) };
                nth * stride + column * leading + row
            }
        };
        let (at_left, at_right, at_result) = (place(a), place(b), place(c));
        Some(Box::new(move || {
            for nth in 0..batch {
                let lines = |lines: usize, element: &dyn Fn(usize, usize) -> f64| -> Vec<f64> {
                    (0..lines).flat_map(|line| (0..inner).map(move |at| element(line, at))).collect()
                };
                let lefts = lines(rows, &|row, at| left.get(at_left(nth, row, at)));
                let rights = lines(columns, &|column, at| right.get(at_right(nth, at, column)));
                for (column, row) in (0..columns).flat_map(|column| (0..rows).map(move |row| (column, row))) {
                    let (one, other) = (&lefts[row * inner..][..inner], &rights[column * inner..][..inner]);
                    let sum: f64 = one.iter().zip(other).map(|(x, y)| x * y).sum();
                    let place = at_result(nth, row, column);
                    let before = if self.beta == 0.0 { 0.0 } else { self.beta * result.get(place) };
                    result.set(place, self.alpha * sum + before);
                }
            }
            Ok(())
        }))
    }
}

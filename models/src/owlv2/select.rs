//! What is made of the model's predictions: boxes in pixels, of which the likely ones are kept.

/// A rectangle in pixels from the picture's top left. It may reach beyond the picture, as far as the model thinks that the
/// thing does.
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Bounds {
    pub left: f32,
    pub top: f32,
    pub right: f32,
    pub bottom: f32,
}

impl Bounds {
    /// From the middle, width and height in parts of a square whose side is `square` pixels.
    fn of([x, y, width, height]: [f32; 4], square: f32) -> Self {
        let (half_width, half_height) = (0.5 * width, 0.5 * height);
        Self {
            left: (x - half_width) * square,
            top: (y - half_height) * square,
            right: (x + half_width) * square,
            bottom: (y + half_height) * square,
        }
    }

    fn area(&self) -> f32 {
        (self.right - self.left).max(0.0) * (self.bottom - self.top).max(0.0)
    }

    /// How much of what the two cover together both cover, from 0 to 1.
    #[must_use]
    pub fn overlap(&self, other: &Self) -> f32 {
        let both = Self {
            left: self.left.max(other.left),
            top: self.top.max(other.top),
            right: self.right.min(other.right),
            bottom: self.bottom.min(other.bottom),
        };
        let shared = both.area();
        let covered = self.area() + other.area() - shared;
        if covered > 0.0 { shared / covered } else { 0.0 }
    }
}

/// Something that was looked for and found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    /// Which of the texts names it, counted from 0.
    pub label: usize,
    /// How sure that is, from 0 to 1; scores do not add up to anything.
    pub score: f32,
    /// Where it is.
    pub bounds: Bounds,
}

/// The detections whose score is above `threshold`, the surest first, from each patch's logits for all texts and its box.
pub(super) fn detections(logits: &[Vec<f32>], boxes: &[Vec<f32>], square: f32, threshold: f32) -> Vec<Detection> {
    let found = logits.iter().zip(boxes).filter_map(|(logits, bounds)| {
        // Of equals, the first.
        let best = logits.iter().copied().enumerate().reduce(|best, one| if one.1 > best.1 { one } else { best });
        let ((label, logit), &[x, y, width, height]) = (best?, bounds.as_slice()) else { return None };
        let score = 1.0 / (1.0 + (-logit).exp());
        (score > threshold).then(|| Detection { label, score, bounds: Bounds::of([x, y, width, height], square) })
    });
    let mut found: Vec<_> = found.collect();
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    found
}

/// Leaves out every detection that shares more than `most` with a surer one of the same label.
pub(super) fn suppress(found: Vec<Detection>, most: f32) -> Vec<Detection> {
    let mut kept: Vec<Detection> = Vec::new();
    for one in found {
        if !kept.iter().any(|other| other.label == one.label && other.bounds.overlap(&one.bounds) > most) {
            kept.push(one);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(left: f32, label: usize, score: f32) -> Detection {
        Detection { label, score, bounds: Bounds { left, top: 0.0, right: left + 10.0, bottom: 10.0 } }
    }

    #[test]
    fn overlap_is_of_what_both_cover() {
        let of = |a: f32, b: f32| at(a, 0, 1.0).bounds.overlap(&at(b, 0, 1.0).bounds);
        assert_eq!((of(0.0, 0.0), of(0.0, 10.0), of(0.0, 30.0)), (1.0, 0.0, 0.0));
        assert!((of(0.0, 5.0) - 1.0 / 3.0).abs() < 1e-6);
        let empty = Bounds { left: 1.0, top: 1.0, right: 1.0, bottom: 1.0 };
        assert_eq!(empty.overlap(&empty), 0.0);
    }

    #[test]
    fn one_box_is_left_of_each_thing() {
        let found = vec![at(0.0, 0, 0.9), at(1.0, 0, 0.8), at(1.0, 1, 0.7), at(30.0, 0, 0.6), at(2.0, 1, 0.5)];
        let kept = suppress(found.clone(), 0.5);
        assert_eq!(kept, [at(0.0, 0, 0.9), at(1.0, 1, 0.7), at(30.0, 0, 0.6)]);
        assert_eq!(suppress(found.clone(), 1.0), found);
    }

    #[test]
    fn the_surest_come_first_and_the_unsure_not_at_all() {
        let logits = [vec![0.0, -1.0], vec![1.0, 2.0], vec![-5.0, -5.0]];
        let boxes = [vec![0.5, 0.5, 0.2, 0.4], vec![0.25, 0.5, 0.5, 1.0], vec![0.5; 4]];
        let found = detections(&logits, &boxes, 100.0, 0.3);
        assert_eq!(found.iter().map(|one| one.label).collect::<Vec<_>>(), [1, 0]);
        assert_eq!(found[0].bounds, Bounds { left: 0.0, top: 0.0, right: 50.0, bottom: 100.0 });
        assert!((found[0].score - 0.880_797).abs() < 1e-5 && (found[1].score - 0.5).abs() < 1e-6);
    }
}

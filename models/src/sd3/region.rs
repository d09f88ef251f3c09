//! The part of a picture that is made anew.

use crate::{
    error::{Error, Result},
    picture::Picture,
};

/// A part of a picture that is made anew, while the rest stays as it is.
#[derive(Debug, Clone, Copy)]
pub struct Region<'a> {
    /// The picture; what is made is of its size.
    pub picture: &'a Picture,
    /// Which of its pixels are made anew, row by row from the top left, as in [`sam2::Mask`](crate::sam2::Mask).
    pub mask: &'a [bool],
    /// By how many pixels the mask is grown to all sides first. An outline that runs a little inside of a thing would leave its
    /// rim.
    pub grow: u32,
    /// How much of the picture's noise levels is gone through: with 1 the region is made from noise alone, with less what was
    /// there shows through. More than 0.
    pub strength: f64,
}

impl<'a> Region<'a> {
    /// By how many pixels masks are grown where nothing is said.
    pub const GROW: u32 = 2;

    /// The pixels of `picture` for which `mask` holds, from noise alone, with the default rim.
    #[must_use]
    pub fn new(picture: &'a Picture, mask: &'a [bool]) -> Self {
        Self { picture, mask, grow: Self::GROW, strength: 1.0 }
    }

    /// Refuses a mask that does not fit or marks nothing, and a strength without meaning.
    pub(super) fn check(&self) -> Result<()> {
        let (width, height) = (self.picture.width(), self.picture.height());
        let pixels = u64::from(width) * u64::from(height);
        if self.mask.len() as u64 != pixels {
            return Err(Error::Input(format!(
                "a mask of {} pixels does not fit a picture of {width} x {height}",
                self.mask.len()
            )));
        }
        if !self.mask.contains(&true) {
            return Err(Error::Input("the mask marks no pixel, so there is nothing to make anew".to_owned()));
        }
        if !(self.strength > 0.0 && self.strength <= 1.0) {
            return Err(Error::Input(format!(
                "a strength of {} has no meaning; it is more than 0, and at most 1",
                self.strength
            )));
        }
        Ok(())
    }

    /// The mask, grown.
    pub(super) fn grown(&self) -> Vec<bool> {
        grow(self.mask, self.picture.width() as usize, self.grow as usize)
    }

    /// How many of so many steps are left out.
    pub(super) fn skipped(&self, steps: u32) -> u32 {
        let steps = f64::from(steps);
        ((steps - (steps * self.strength).min(steps)) as u32).min((steps - 1.0) as u32)
    }

    /// `made`, with the picture's own pixels wherever the grown mask does not hold.
    pub(super) fn paste(&self, made: &Picture) -> Result<Picture> {
        let pixels = made.rgb().chunks(3).zip(self.picture.rgb().chunks(3)).zip(self.grown());
        let rgb = pixels.flat_map(|((made, kept), anew)| if anew { made } else { kept }).copied().collect();
        Picture::new(self.picture.width(), self.picture.height(), rgb)
    }
}

/// A mask of rows of `width` pixels, with all pixels that are at most `by` rows and columns away from one that it holds.
#[must_use]
pub fn grow(mask: &[bool], width: usize, by: usize) -> Vec<bool> {
    let rows: Vec<bool> = mask.chunks(width).flat_map(|row| spread(row, by)).collect();
    let height = mask.len() / width;
    let columns: Vec<bool> = turn(&rows, width).chunks(height).flat_map(|column| spread(column, by)).collect();
    turn(&columns, height)
}

/// Rows of `width` pixels as columns.
fn turn(mask: &[bool], width: usize) -> Vec<bool> {
    (0..width).flat_map(|x| mask.iter().skip(x).step_by(width)).copied().collect()
}

fn spread(line: &[bool], by: usize) -> Vec<bool> {
    let mut wide = line.to_vec();
    let mut along = |places: &mut dyn Iterator<Item = usize>| {
        let mut left = 0;
        for i in places {
            left = if line[i] { by + 1 } else { left };
            wide[i] |= left > 0;
            left = left.saturating_sub(1);
        }
    };
    along(&mut (0..line.len()));
    along(&mut (0..line.len()).rev());
    wide
}

/// For each square of `side` x `side` pixels whether the mask holds any of them, row by row. Both sides of the mask are
/// multiples of `side`.
///
/// diffusers asks one pixel of each square alone, and so loses thin parts of a mask that is not made of whole squares.
#[must_use]
pub fn cells(mask: &[bool], width: usize, side: usize) -> Vec<bool> {
    let columns = width / side;
    let mut cells = vec![false; columns * (mask.len() / width / side)];
    for (y, row) in mask.chunks(width).enumerate() {
        for (x, _) in row.iter().enumerate().filter(|(_, held)| **held) {
            cells[y / side * columns + x / side] = true;
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(rows: &[&str]) -> Vec<bool> {
        rows.iter().flat_map(|row| row.chars().map(|c| c == '#')).collect()
    }

    #[test]
    fn a_mask_grows_to_all_sides_and_to_no_other_row() {
        let small = mask(&["......", "......", "..#...", ".....#"]);
        assert_eq!(grow(&small, 6, 0), small);
        assert_eq!(grow(&small, 6, 1), mask(&["......", ".###..", ".#####", ".#####"]));
        assert_eq!(grow(&small, 6, 100), vec![true; 24]);
        assert_eq!(grow(&[false; 6], 3, 2), [false; 6]);
    }

    #[test]
    fn a_cell_is_held_if_any_of_its_pixels_is() {
        let thin = mask(&["......", "...#..", "......", "......"]);
        assert_eq!(cells(&thin, 6, 2), [false, true, false, false, false, false]);
    }

    #[test]
    fn what_is_not_held_is_pasted_back() {
        let (black, white) = (Picture::new(3, 1, vec![0; 9]).unwrap(), Picture::new(3, 1, vec![255; 9]).unwrap());
        let pasted = |grow| {
            let region = Region { grow, ..Region::new(&black, &[true, false, false]) };
            region.paste(&white).unwrap().rgb().iter().step_by(3).copied().collect::<Vec<_>>()
        };
        assert_eq!((pasted(0), pasted(1)), (vec![255, 0, 0], vec![255, 255, 0]));
    }

    #[test]
    fn regions_without_meaning_are_refused() {
        let picture = Picture::new(2, 2, vec![0; 12]).unwrap();
        let whole = Region::new(&picture, &[true; 4]);
        assert!(whole.check().is_ok());
        for region in [
            Region { mask: &[true; 3], ..whole },
            Region { mask: &[false; 4], ..whole },
            Region { strength: 0.0, ..whole },
            Region { strength: 1.5, ..whole },
            Region { strength: f64::NAN, ..whole },
        ] {
            assert!(matches!(region.check(), Err(Error::Input(_))), "{region:?}");
        }
        let skipped = |strength, steps| Region { strength, ..whole }.skipped(steps);
        assert_eq!((skipped(1.0, 4), skipped(0.6, 4), skipped(0.5, 5), skipped(1e-30, 7)), (0, 1, 2, 6));
    }
}

//! Elements that go elsewhere as they are.

use super::Call;
use super::array::Type;
use crate::model::engine::Effect;
use crate::status::Status;

impl Call {
    /// Rows of one array, by their numbers. A number that is too high is an assertion in the kernel, and so a fault of the device;
    /// the highest of all stands for zeros.
    pub(super) fn index_select(self, ids: Type, kind: Type) -> Option<Effect> {
        let (count, dims) = (self.size(0)?, self.size(1)?);
        let highest = match ids {
            Type::U8 => f64::from(u8::MAX),
            Type::U32 => f64::from(u32::MAX),
            Type::I64 => i64::MAX as f64,
            Type::F16 | Type::Bf16 | Type::F32 | Type::F64 => return None,
        };
        let (ids, input, output) = (self.array(3, ids)?, self.array(4, kind)?, self.array(5, kind)?);
        let [rows, chosen, right] = [7, 8, 9].map(|at| self.size(at).unwrap_or_default());
        Some(Box::new(move || {
            let layout = self.layout(dims, 2, 0);
            for at in 0..count {
                let (left, id, rest) = (at / (chosen * right), ids.get(at / right % chosen), at % right);
                let value = if id == highest {
                    0.0
                } else if id >= 0.0 && id < rows as f64 {
                    input.get(layout.place((left * rows + id as usize) * right + rest))
                } else {
                    return Err(Status::ASSERT);
                };
                output.set(at, value);
            }
            Ok(())
        }))
    }

    /// Rows from one place to another.
    pub(super) fn copy2d(self, kind: Type) -> Option<Effect> {
        let (input, output) = (self.array(0, kind)?, self.array(1, kind)?);
        let number = |at| self.number(at, Type::U32).map(|number| number as usize);
        let (rows, columns, from, to) = (number(2)?, number(3)?, number(4)?, number(5)?);
        Some(Box::new(move || {
            for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))) {
                output.set(row * to + column, input.get(row * from + column));
            }
            Ok(())
        }))
    }

    /// What each element of a convolution's result is made of: for each of a picture's places all channels of what the kernel
    /// covers there.
    pub(super) fn patches(self, kind: Type) -> Option<Effect> {
        let [count, height, width, kernel_height, kernel_width, stride, padding, dilation] =
            [0, 1, 2, 3, 4, 5, 6, 7].map(|at| self.size(at).unwrap_or_default());
        let (input, output) = (self.array(9, kind)?, self.array(10, kind)?);
        Some(Box::new(move || {
            let (dims, strides) = self.four(8);
            for at in 0..count {
                let (rest, kernel_x) = (at / kernel_width, at % kernel_width);
                let (rest, kernel_y) = (rest / kernel_height, rest % kernel_height);
                let (rest, channel) = (rest / dims[1], rest % dims[1]);
                let (rest, x) = (rest / width, rest % width);
                let (picture, y) = (rest / height, rest % height);
                let inside = |at: usize, offset: usize, size: usize| {
                    (at * stride + offset * dilation).checked_sub(padding).filter(|at| *at < size)
                };
                let value = match (inside(y, kernel_y, dims[2]), inside(x, kernel_x, dims[3])) {
                    (Some(y), Some(x)) => {
                        input.get(picture * strides[0] + channel * strides[1] + y * strides[2] + x * strides[3])
                    }
                    _ => 0.0,
                };
                output.set(at, value);
            }
            Ok(())
        }))
    }

    /// A larger picture, each element of which is the nearest of the smaller.
    pub(super) fn enlarge(self, kind: Type) -> Option<Effect> {
        let (width, height) = (self.size(0)?, self.size(1)?);
        let (across, down) = (self.number(2, Type::F64)?, self.number(3, Type::F64)?);
        let (input, output) = (self.array(5, kind)?, self.array(6, kind)?);
        Some(Box::new(move || {
            // What the kernel calls the width comes before the height.
            let (dims, strides) = self.four(4);
            for at in 0..dims[0] * dims[1] * width * height {
                let (rest, y) = (at / height, at % height);
                let (rest, x) = (rest / width, rest % width);
                let (picture, channel) = (rest / dims[1], rest % dims[1]);
                let (x, y) = ((x as f64 * across) as usize, (y as f64 * down) as usize);
                let (x, y) = (x.min(dims[2] - 1), y.min(dims[3] - 1));
                let from = picture * strides[0] + channel * strides[1] + x * strides[2] + y * strides[3];
                output.set(at, input.get(from));
            }
            Ok(())
        }))
    }

    /// The sizes and strides of four dimensions at the address that an argument is.
    fn four(&self, at: usize) -> ([usize; 4], [usize; 4]) {
        let address = self.arguments[at] as *const [usize; 4];
        // SAFETY: By the condition that this call was made under.
        unsafe { (*address, *address.add(1)) }
    }
}

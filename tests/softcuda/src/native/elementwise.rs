//! One element from one or two others.

use super::Call;
use super::array::Type;
use crate::model::engine::Effect;

type Unary = fn(f64) -> f64;
type Binary = fn(f64, f64) -> f64;

/// By the name of the kernel without its type.
pub(super) fn unary(root: &str) -> Option<Unary> {
    Some(match root {
        "uabs" => f64::abs,
        "uceil" => f64::ceil,
        "ucopy" => |x| x,
        "ucos" => f64::cos,
        "uerf" => libm::erf,
        "uexp" => f64::exp,
        "ufloor" => f64::floor,
        "ugelu" => |x| 0.5 * x * (1.0 + (std::f64::consts::FRAC_2_PI.sqrt() * x * (1.0 + 0.044715 * x * x)).tanh()),
        "ugelu_erf" => |x| x * normal(x),
        "ulog" => f64::ln,
        "uneg" => |x| -x,
        "unormcdf" => normal,
        "urecip" => f64::recip,
        "urelu" => |x| x.max(0.0),
        "uround" => f64::round,
        "usigmoid" => sigmoid,
        "usign" => |x| f64::from(i8::from(x > 0.0) - i8::from(x < 0.0)),
        "usilu" => |x| x * sigmoid(x),
        "usin" => f64::sin,
        "usqr" => |x| x * x,
        "usqrt" => f64::sqrt,
        "utanh" => f64::tanh,
        _ => return None,
    })
}

fn normal(x: f64) -> f64 {
    0.5 * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2))
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

pub(super) fn binary(root: &str) -> Option<Binary> {
    Some(match root {
        "badd" => |x, y| x + y,
        "bdiv" => |x, y| x / y,
        "bmaximum" => f64::max,
        "bminimum" => f64::min,
        "bmul" => |x, y| x * y,
        "bsub" => |x, y| x - y,
        _ => return None,
    })
}

pub(super) fn comparison(root: &str) -> Option<Binary> {
    Some(match root {
        "eq" => |x, y| f64::from(u8::from(x == y)),
        "ge" => |x, y| f64::from(u8::from(x >= y)),
        "gt" => |x, y| f64::from(u8::from(x > y)),
        "le" => |x, y| f64::from(u8::from(x <= y)),
        "lt" => |x, y| f64::from(u8::from(x < y)),
        "ne" => |x, y| f64::from(u8::from(x != y)),
        _ => return None,
    })
}

impl Call {
    pub(super) fn unary(self, kind: Type, op: Unary) -> Option<Effect> {
        self.map(kind, 3, kind, 4, op)
    }

    pub(super) fn cast(self, from: Type, to: Type) -> Option<Effect> {
        self.map(from, 3, to, 4, |x| x)
    }

    pub(super) fn affine(self, kind: Type) -> Option<Effect> {
        let (factor, summand) = (self.number(5, kind)?, self.number(6, kind)?);
        self.map(kind, 3, kind, 4, move |x| x * factor + summand)
    }

    pub(super) fn unary_with(self, kind: Type, op: Binary) -> Option<Effect> {
        let with = self.number(3, kind)?;
        self.map(kind, 4, kind, 5, move |x| op(x, with))
    }

    fn map(
        self,
        from: Type,
        input: usize,
        to: Type,
        output: usize,
        op: impl Fn(f64) -> f64 + Send + 'static,
    ) -> Option<Effect> {
        let (count, dims) = (self.size(0)?, self.size(1)?);
        let (input, output) = (self.array(input, from)?, self.array(output, to)?);
        Some(Box::new(move || {
            let layout = self.layout(dims, 2, 0);
            for at in 0..count {
                output.set(at, op(input.get(layout.place(at))));
            }
            Ok(())
        }))
    }

    pub(super) fn binary(self, kind: Type, to: Type, op: Binary) -> Option<Effect> {
        let (count, dims) = (self.size(0)?, self.size(1)?);
        let (left, right, output) = (self.array(3, kind)?, self.array(4, kind)?, self.array(5, to)?);
        Some(Box::new(move || {
            let layouts = [0, 1].map(|which| self.layout(dims, 2, which));
            for at in 0..count {
                output.set(at, op(left.get(layouts[0].place(at)), right.get(layouts[1].place(at))));
            }
            Ok(())
        }))
    }

    pub(super) fn choose(self, ids: Type, kind: Type) -> Option<Effect> {
        let (count, dims) = (self.size(0)?, self.size(1)?);
        let (ids, output) = (self.array(3, ids)?, self.array(6, kind)?);
        let (one, other) = (self.array(4, kind)?, self.array(5, kind)?);
        Some(Box::new(move || {
            let layouts = [0, 1, 2].map(|which| self.layout(dims, 2, which));
            for at in 0..count {
                let [id, one_at, other_at] = [0, 1, 2].map(|which| layouts[which].place(at));
                output.set(at, if ids.get(id) != 0.0 { one.get(one_at) } else { other.get(other_at) });
            }
            Ok(())
        }))
    }

    pub(super) fn constant(self, kind: Type) -> Option<Effect> {
        let (count, dims, value, output) = (self.size(0)?, self.size(1)?, self.number(3, kind)?, self.array(4, kind)?);
        Some(Box::new(move || {
            let layout = self.layout(dims, 2, 0);
            for at in 0..count {
                output.set(layout.place(at), value);
            }
            Ok(())
        }))
    }
}

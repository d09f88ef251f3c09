//! Modules, the kernels in them by their PTX, and launches.

use std::collections::BTreeMap;

use super::engine::{Effect, Op, Work};
use super::{Gpu, Mark, StreamId};
use crate::status::Status;

/// A module that is loaded.
#[derive(Debug)]
pub(crate) struct Module {
    /// Where on the device its code is.
    pub(crate) code: u64,
    pub(crate) kernels: BTreeMap<String, Kernel>,
    /// The handles of those of its kernels that were asked for.
    pub(crate) functions: BTreeMap<String, usize>,
}

/// A kernel: a name, and what its arguments are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    pub(crate) name: String,
    pub(crate) arguments: Vec<Argument>,
}

/// An argument of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Argument {
    /// An address of device memory.
    Pointer,
    /// A number of so many bytes.
    Number(usize),
}

impl Argument {
    /// How much of it there is, in bytes.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::Pointer => 8,
            Self::Number(bytes) => bytes,
        }
    }

    /// As an entry has it: `.param .u64 .ptr .global name`.
    fn parse(text: &str) -> Result<Self, Status> {
        let mut words = text.split_whitespace().skip_while(|word| *word != ".param").skip(1);
        let kind = words.next().ok_or(Status::INVALID_PTX)?;
        if words.any(|word| word == ".ptr") {
            return Ok(Self::Pointer);
        }
        let bits: usize =
            kind.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().map_err(|_| Status::INVALID_PTX)?;
        Ok(Self::Number(bits / 8))
    }
}

/// The kernels of a module's PTX, by name. Of it nothing is looked at but the arguments of its entries; those that are addresses
/// are told from numbers by `.ptr`.
///
/// # Errors
/// `INVALID_PTX` for what is not PTX.
pub(crate) fn kernels(ptx: &str) -> Result<BTreeMap<String, Kernel>, Status> {
    if !ptx.lines().any(|line| line.starts_with(".version ")) {
        return Err(Status::INVALID_PTX);
    }
    let entries = ptx.split(".entry ").skip(1).map(|entry| {
        let (name, rest) = entry.split_once('(').ok_or(Status::INVALID_PTX)?;
        let (arguments, _) = rest.split_once(')').ok_or(Status::INVALID_PTX)?;
        let arguments = arguments.split(',').filter(|argument| argument.contains(".param")).map(Argument::parse);
        let name = name.trim().to_owned();
        Ok((name.clone(), Kernel { name, arguments: arguments.collect::<Result<_, _>>()? }))
    });
    entries.collect()
}

impl Gpu {
    /// A kernel, which uses the memory at some addresses: its time is what the settings say, and so is whether the device
    /// survives it.
    pub(crate) fn launch(
        &mut self,
        stream: StreamId,
        name: &str,
        addresses: &[u64],
        effect: Option<Effect>,
    ) -> Result<Mark, Status> {
        self.alive()?;
        for address in addresses {
            self.use_around(stream, *address)?;
        }
        self.launch_work(stream, name, Work { effect, ..Work::default() })
    }

    /// A kernel that does something.
    pub(crate) fn launch_work(&mut self, stream: StreamId, name: &str, work: Work) -> Result<Mark, Status> {
        self.alive()?;
        let due = name.starts_with(&self.settings.fault_kernel) && self.settings.fault_at.next();
        let fault = self.settings.goes_wrong(due).then_some(self.settings.fault);
        let ns = self.settings.kernels.of(name);
        self.submit(stream, Op::Work(Work { kind: "kernel", name: name.to_owned(), ns, fault, ..work }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_found_with_their_arguments() {
        let ptx = "// x\n.version 9.0\n.target sm_80\n.visible .entry fill(\n\t.param .u64 .ptr .global fill_param_0,\n\t.param .u8 \
                   fill_param_1\n)\n{\n\tret;\n}\n.visible .entry none()\n{\n\tret;\n}\n";
        let kernel = |name: &str, arguments: &[Argument]| {
            (name.to_owned(), Kernel { name: name.to_owned(), arguments: arguments.to_vec() })
        };
        assert_eq!(
            kernels(ptx),
            Ok(BTreeMap::from([kernel("fill", &[Argument::Pointer, Argument::Number(1)]), kernel("none", &[])]))
        );
        assert_eq!(kernels("ELF"), Err(Status::INVALID_PTX));
        assert_eq!(kernels(".version 9.0\n.entry broken("), Err(Status::INVALID_PTX));
    }
}

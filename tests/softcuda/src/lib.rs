//! A model of NVIDIA's driver, in software: what candle and cudarc need of libcuda, cuBLAS, cuRAND and NVML, in one library.
//!
//! It is for tests of code that uses CUDA, where there is no GPU. `toolkit.sh` makes a toolkit of it with which unmodified
//! candle builds and links; programs so built run here. By itself it computes nothing, but memory, streams and errors behave as
//! NVIDIA documents them, on a virtual clock, so that what a test sees depends on the order of calls and on nothing else.
//!
//! # What it models
//!
//! - **Time.** A clock in virtual nanoseconds, which goes on only when somebody waits (synchronises, copies to pageable
//!   memory, adds to a stream that is full) or says `softcuda_advance`. Calls take no time, and nothing ever sleeps.
//! - **One engine.** It runs one kernel, copy or memset at a time, to its end; then the next of the stream with the highest
//!   priority, and among equals what was submitted first. How long each takes is set.
//! - **Streams** in order, with priorities from 0 to -5, handles that are given out again, and a bounded queue; events;
//!   a stream that waits for another's event.
//! - **Memory.** The device's capacity; a context, modules and cuBLAS handles take some of it. Pools with a greatest size, a
//!   release threshold, used and reserved, current and high; memory is freed when its stream gets there, its own stream may have
//!   it again at once, another when it is free, or by being made to wait. A pool takes chunks of 2 MiB from the device and
//!   gives back what is wholly free: at a synchronise above its threshold, by a trim, or to make room.
//! - **Bytes.** Copies and memsets move them in the order of the streams. Memory that nothing was written to takes none of the
//!   machine's.
//! - **Numbers**, if asked for: the kernels that our models launch, and cuBLAS's products, computed on the host one element after
//!   another, with the precision of their results; an index that is too high is a fault of the device, as it is in candle's kernels.
//! - **Errors**, as documented: unknown handles, what was freed already, no memory, no context. After a fault of the device
//!   every call fails until the process ends.
//! - **Hazards**, which hardware may let pass: memory that is freed while another stream has not come to its use, used before
//!   the stream that asked for it has it, or used after it was freed. Each is said on standard error and is a fault of the device. Of
//!   what a kernel uses it knows the addresses that it is given; the stand-in compiler leaves the kernels' arguments in their PTX.
//!
//! # What it does not model
//!
//! What other kernels compute: memory stays as it is. In what order and with what precision hardware sums. Kernels that run beside each other, copy engines, clocks that
//! change, the cost of calls. How hardware makes up its mind between streams: that a higher priority goes first is NVIDIA's
//! hint, not a promise. Physical pages that are mapped anew, so fragmentation may be worse here; caps and sizes that the real
//! driver rounds. The legacy stream does not wait for others. Graphs, managed memory, peers, host functions, more than one device or
//! context, other processes. That something works here proves nothing about hardware but that the calls were in order.
//!
//! # Settings
//!
//! From the environment when the library is loaded, or by `softcuda_set` with the same name. What makes no sense ends the process.
//!
//! | name | default | |
//! | --- | --- | --- |
//! | `SOFTCUDA_DEVICES` | `1` | `0`: `cuInit` finds no device, and NVML no driver |
//! | `SOFTCUDA_NAME` | `Software GPU` | the device's name |
//! | `SOFTCUDA_DRIVER` | `13000` | the version of CUDA that the driver is for; 12000 is 12.0 |
//! | `SOFTCUDA_COMPUTE` | `80` | the compute capability |
//! | `SOFTCUDA_MEMORY` | `48G` | what the device has |
//! | `SOFTCUDA_OTHERS` | `0` | what another tenant has of it |
//! | `SOFTCUDA_POOLS` | `1` | `0`: no memory pools |
//! | `SOFTCUDA_CAP` | `enforced` | `ignored`: a pool's greatest size is not kept to |
//! | `SOFTCUDA_KERNELS` | `*=10000` | how long kernels take: `NAME=NS,...`, where `NAME` may end with `*`; what is set last goes first |
//! | `SOFTCUDA_COPY_GBPS` | `16` | how fast copies over the bus are; within the device it is 1000 |
//! | `SOFTCUDA_NUMBERS` | `0` | `1`: kernels compute, as far as it is known what |
//! | `SOFTCUDA_QUEUE` | `1024` | what a stream holds before a call waits |
//! | `SOFTCUDA_OOM_AT` | | which allocations by `cuMemAlloc*` fail, counted from when this was set: `5`, `5,7` or `5+` |
//! | `SOFTCUDA_FAULT_AT` | | at which launches the device fails, in the same way |
//! | `SOFTCUDA_FAULT_KERNEL` | | only launches of kernels whose names begin so are counted |
//! | `SOFTCUDA_FAULT` | `illegal-address` | or `assert`, `launch-failed` |
//! | `SOFTCUDA_ONCE` | | a file, made if need be: `OOM_AT` and `FAULT_AT` strike only while it is empty, and write to it as they do; so once, over all processes |
//! | `SOFTCUDA_TRACE` | | a file that the trace is appended to |
//!
//! Sizes are in bytes, or with `K`, `M`, `G` in powers of 1024.
//!
//! # For tests
//!
//! A program that is linked with the driver declares what it needs of these:
//!
//! ```c
//! uint64_t softcuda_now(void);                              // virtual nanoseconds
//! void softcuda_advance(uint64_t ns);                       // lets time pass, in which the device works
//! int softcuda_set(const char *name, const char *value);    // 0, or 1 and a line on standard error
//! int softcuda_set_kernel_ns(const char *name, uint64_t ns);
//! size_t softcuda_trace(char *text, size_t room);           // how long the trace is; as much of it as there is room for
//! void softcuda_trace_clear(void);
//! uint32_t softcuda_stream(CUstream stream);                // the number that the trace has for a stream
//! CUresult softcuda_failed(void);                           // the fault of the device, or 0
//! ```
//!
//! The trace has a line for each thing that the engine has done, in the order in which it was done:
//!
//! ```text
//! SUBMITTED BEGIN END STREAM PRIORITY KIND NAME BYTES
//! 120000 120000 130000 3 -5 kernel badd_f32 0
//! ```
//!
//! Times are virtual nanoseconds. `KIND` is `kernel` (a cuBLAS or cuRAND call has its function's name), `copy` (`htod`, `dtoh`,
//! `dtod`), `set` (`d8`) or `hazard`. Streams are numbered as they are made, from 1; 0 is the legacy stream.

#![allow(non_snake_case, reason = "NVIDIA's names")]

mod api;
mod model;
mod native;
mod settings;
mod status;

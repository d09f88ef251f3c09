//! What is to be seen.

use candle_core::cuda::CudaError;
use candle_core::cuda::cudarc::driver::result;
use candle_core::cuda::cudarc::driver::sys::{self, CUmemPool_attribute_enum as Attribute, CUresult};
use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{CudaDevice, DType, Device, Error, Module, Result, Tensor, backend::BackendDevice};
use candle_nn::VarBuilder;

use crate::Case;
use crate::interposed::with_priority;
use crate::numbers;
use crate::soft::{self, Ran};

/// All of them.
pub(crate) const CASES: &[Case] = &[
    ("copies move bytes and operations launch their kernels", &[], operations),
    ("a model's layers run", &[], layers),
    ("what candle compiles ahead is launched", &[], quantised),
    ("numbers are those of the CPU", &[("SOFTCUDA_NUMBERS", "1")], numbers::same_as_on_the_cpu),
    ("an index that is too high is a fault", &[("SOFTCUDA_NUMBERS", "1")], numbers::bad_index),
    ("a light operation overtakes queued heavy ones", &[("SOFTCUDA_KERNELS", "*=1000000")], priorities),
    ("allocations come from the current pool, up to its cap", &[("SOFTCUDA_MEMORY", "8G")], pools),
    ("a cap that is ignored is found out", &[("SOFTCUDA_CAP", "ignored")], ignored_cap),
    ("without pools candle falls back, and the attribute says so", &[("SOFTCUDA_POOLS", "0")], no_pools),
    ("weights of 40 GB need no memory of the machine", &[], large),
    ("a chosen allocation fails with a type", &[("SOFTCUDA_OOM_AT", "2")], chosen_allocation),
    ("after a fault nothing works", &[("SOFTCUDA_FAULT_AT", "2"), ("SOFTCUDA_FAULT", "assert")], fault),
    ("another stream's memory cannot be freed under it", &[], hazard),
    ("no device", &[("SOFTCUDA_DEVICES", "0")], no_device),
];

/// The driver's answer in an error of candle's.
pub(crate) fn answer(error: &Error) -> Option<CUresult> {
    match error {
        Error::WithBacktrace { inner, .. } | Error::Context { inner, .. } => answer(inner),
        Error::Cuda(error) => match error.downcast_ref()? {
            CudaError::Cuda(error) | CudaError::Load { cuda: error, .. } => Some(error.0),
            _ => None,
        },
        _ => None,
    }
}

fn cuda(device: &Device) -> &CudaDevice {
    device.as_cuda_device().expect("on the device")
}

fn number(device: &Device) -> u32 {
    soft::stream(cuda(device).cuda_stream().cu_stream() as usize)
}

fn kernels(trace: &[Ran]) -> Vec<&str> {
    trace.iter().filter(|ran| ran.kind == "kernel").map(|ran| ran.name.as_str()).collect()
}

/// The end of a case whose device is lost. As whoever has lost one has to, it ends the process rather than give anything back:
/// cudarc panics where it cannot.
pub(crate) fn lost() -> ! {
    std::process::exit(0)
}

fn finish(device: &Device) {
    cuda(device).cuda_stream().synchronize().expect("the device is well");
}

fn operations() {
    let device = Device::new_cuda_with_stream(0).unwrap();
    let numbers: Vec<f32> = (0..12).map(|n| n as f32).collect();
    let a = Tensor::from_vec(numbers.clone(), (3, 4), &device).unwrap();
    assert_eq!(a.flatten_all().unwrap().to_vec1::<f32>().unwrap(), numbers);
    soft::forget();
    let b = a.exp().unwrap().to_dtype(DType::BF16).unwrap();
    let product = b.matmul(&b.t().unwrap().contiguous().unwrap()).unwrap();
    assert_eq!((product.dims(), product.dtype()), (&[3, 3][..], DType::BF16));
    finish(&device);
    let trace = soft::trace();
    assert_eq!(kernels(&trace), ["uexp_f32", "cast_f32_bf16", "ucopy_bf16", "cublasGemmStridedBatchedEx"]);
    assert!(trace.iter().all(|ran| ran.stream == number(&device) && ran.begin < ran.end), "{trace:?}");
    assert!(trace.windows(2).all(|two| two[0].end <= two[1].begin), "one engine: {trace:?}");

    // Not cuRAND's numbers, but normal ones.
    let noise = Tensor::randn(1_f32, 2., 10_000, &device).unwrap().to_vec1::<f32>().unwrap();
    let mean = noise.iter().sum::<f32>() / 10_000.;
    let deviation = (noise.iter().map(|n| (n - mean).powi(2)).sum::<f32>() / 10_000.).sqrt();
    assert!((mean - 1.).abs() < 0.1 && (deviation - 2.).abs() < 0.1, "{mean} {deviation}");
}

fn layers() {
    fn run(device: &Device) -> Result<Tensor> {
        let vars = VarBuilder::zeros(DType::F32, device);
        let image = Tensor::zeros((1, 4, 8, 8), DType::F32, device)?;
        let image = candle_nn::conv2d(4, 8, 3, Default::default(), vars.pp("conv"))?.forward(&image)?;
        let image = candle_nn::group_norm(2, 8, 1e-5, vars.pp("norm"))?.forward(&image)?.upsample_nearest2d(12, 12)?;
        let tokens = image.flatten_from(2)?.t()?.contiguous()?;
        let ids = Tensor::from_slice(&[1_u32, 2, 3], 3, device)?;
        let words = candle_nn::embedding(10, 8, vars.pp("words"))?.forward(&ids)?.unsqueeze(0)?;
        let tokens = Tensor::cat(&[tokens, words], 1)?;
        let tokens = candle_nn::rms_norm(8, 1e-5, vars.pp("rms"))?.forward(&tokens)?;
        let tokens = candle_nn::linear(8, 8, vars.pp("linear"))?.forward(&tokens)?.gelu()?;
        let weights = candle_nn::ops::softmax_last_dim(&tokens.matmul(&tokens.t()?.contiguous()?)?)?;
        weights.matmul(&tokens)?.sum((0, 1))?.argmax(0)
    }
    let device = Device::new_cuda_with_stream(0).unwrap();
    // What it says is what the memory held.
    run(&device).unwrap().to_scalar::<u32>().unwrap();
    let trace = soft::trace();
    for name in ["im2col_f32", "upsample_nearest2d_f32", "is_u32_f32", "rmsnorm_f32", "ugelu_f32", "softmax_f32"] {
        assert!(kernels(&trace).contains(&name), "{name}: {:?}", kernels(&trace));
    }
}

/// Candle's launchers for quantised weights are not in its modules but linked, and the stand-in compiler makes them anew.
fn quantised() {
    let device = Device::new_cuda_with_stream(0).unwrap();
    let weights = Tensor::zeros((64, 256), DType::F32, &Device::Cpu).unwrap();
    let weights = QTensor::quantize_onto(&weights, GgmlDType::Q4_0, &device).unwrap();
    let row = Tensor::zeros((1, 256), DType::F32, &device).unwrap();
    let product = QMatMul::from_qtensor(weights).unwrap().forward(&row).unwrap();
    assert_eq!(product.dims(), [1, 64]);
    finish(&device);
    let trace = soft::trace();
    assert!(kernels(&trace).iter().any(|name| name.starts_with("launch_mm")), "{:?}", kernels(&trace));
    assert!(trace.iter().all(|ran| ran.stream == number(&device)), "{trace:?}");
}

fn priorities() {
    let device = |priority| with_priority(priority, || Device::new_cuda_with_stream(0).unwrap());
    let (heavy, light) = (device(0), device(-5));
    let [on_heavy, on_light] = [&heavy, &light].map(|device| Tensor::zeros(1000, DType::F32, device).unwrap());
    finish(&heavy);
    finish(&light);
    soft::forget();

    let mut x = on_heavy;
    for _ in 0..100 {
        x = x.exp().unwrap();
    }
    let arrived = soft::now();
    let y = on_light.sqrt().unwrap();
    assert_eq!(soft::now(), arrived, "a launch takes no time");
    finish(&light);
    // One heavy kernel runs, which nobody interrupts; 99 wait.
    assert_eq!(soft::now() - arrived, 2_000_000);
    let trace = soft::trace();
    assert_eq!(kernels(&trace), ["uexp_f32", "usqrt_f32"]);
    assert_eq!([trace[0].priority, trace[1].priority], [0, -5]);
    assert_eq!([trace[0].stream, trace[1].stream], [number(&heavy), number(&light)]);
    drop(y);
    finish(&heavy);
    assert_eq!((soft::now() - arrived, kernels(&soft::trace()).len()), (101_000_000, 101));
}

/// A pool of this greatest size, which from now on is the device's current one.
fn pool(cap: usize) -> sys::CUmemoryPool {
    // SAFETY: Zero is a valid value for all that is not set.
    let mut properties: sys::CUmemPoolProps = unsafe { std::mem::zeroed() };
    properties.allocType = sys::CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED;
    properties.location.type_ = sys::CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE;
    properties.maxSize = cap;
    let mut pool = std::ptr::null_mut();
    // SAFETY: Both are there for the call.
    unsafe { sys::cuMemPoolCreate(&raw mut pool, &raw const properties) }.result().unwrap();
    // SAFETY: The pool was made for this device.
    unsafe { sys::cuDeviceSetMemPool(0, pool) }.result().unwrap();
    pool
}

fn level(pool: sys::CUmemoryPool, attribute: Attribute) -> u64 {
    let mut value = 0_u64;
    // SAFETY: The value of these attributes has 64 bits.
    unsafe { sys::cuMemPoolGetAttribute(pool, attribute, (&raw mut value).cast()) }.result().unwrap();
    value
}

fn pools() {
    const MIB: u64 = 1 << 20;
    let device = Device::new_cuda_with_stream(0).unwrap();
    let pool = pool(64 << 20);
    let levels = || {
        let [used, reserved] =
            [Attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT, Attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT];
        (level(pool, used) / MIB, level(pool, reserved) / MIB)
    };
    let zeros = |mib: usize| Tensor::zeros(mib << 18, DType::F32, &device);
    let kept = zeros(40).unwrap();
    assert_eq!(levels(), (40, 40));
    let refused = zeros(30).unwrap_err();
    assert_eq!(answer(&refused), Some(CUresult::CUDA_ERROR_OUT_OF_MEMORY), "{refused}");
    drop(kept);
    // The device has not got to the free, but the same stream may have the memory again.
    assert_eq!(levels(), (40, 40));
    let again = zeros(20).unwrap();
    assert_eq!(levels(), (40, 40));
    drop(again);
    finish(&device);
    assert_eq!(levels(), (0, 0));
    assert_eq!(level(pool, Attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH), 40 * MIB);
}

fn ignored_cap() {
    let device = Device::new_cuda_with_stream(0).unwrap();
    pool(64 << 20);
    Tensor::zeros(128 << 20, DType::U8, &device).unwrap();
}

fn no_pools() {
    let device = Device::new_cuda_with_stream(0).unwrap();
    assert!(!cuda(&device).cuda_stream().context().has_async_alloc());
    let before = result::mem_get_info().unwrap().0;
    let tensor = Tensor::zeros(64 << 20, DType::U8, &device).unwrap();
    assert_eq!(before - result::mem_get_info().unwrap().0, 64 << 20);
    drop(tensor);
    assert_eq!(result::mem_get_info().unwrap().0, before);
}

fn large() {
    let device = Device::new_cuda_with_stream(0).unwrap();
    let weights: Vec<_> = (0..40).map(|_| Tensor::zeros(1 << 28, DType::F32, &device).unwrap()).collect();
    finish(&device);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux says");
    let kib: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 4 << 20, "{kib} KiB for {} GiB on the device", weights.len());
}

fn chosen_allocation() {
    let device = Device::new_cuda_with_stream(0).unwrap();
    Tensor::zeros(8, DType::F32, &device).unwrap();
    let refused = Tensor::zeros(8, DType::F32, &device).unwrap_err();
    assert_eq!(answer(&refused), Some(CUresult::CUDA_ERROR_OUT_OF_MEMORY));
    Tensor::zeros(8, DType::F32, &device).unwrap();
}

fn fault() {
    let device = Device::new_cuda_with_stream(0).unwrap();
    let x = Tensor::zeros(8, DType::F32, &device).unwrap();
    let y = x.exp().unwrap().sqrt().unwrap();
    // The device has not got there yet.
    let failed = y.to_vec1::<f32>().unwrap_err();
    assert_eq!(answer(&failed), Some(CUresult::CUDA_ERROR_ASSERT), "{failed}");
    let stream = cuda(&device).cuda_stream();
    assert_eq!(stream.synchronize().unwrap_err().0, CUresult::CUDA_ERROR_ASSERT);
    assert!(x.exp().is_err() && Device::new_cuda_with_stream(0).is_err());
    lost()
}

fn hazard() {
    let [a, b] = [(); 2].map(|()| Device::new_cuda_with_stream(0).unwrap());
    for device in [&a, &b] {
        // SAFETY: What follows is to go wrong; the driver notices.
        unsafe { cuda(device).disable_event_tracking() };
    }
    let x = Tensor::zeros(8, DType::F32, &a).unwrap();
    finish(&a);
    // Candle takes both for one device, and runs the sum on the stream of the left.
    let y = Tensor::zeros(8, DType::F32, &b).unwrap();
    let sum = (&y + &x).unwrap();
    drop(x);
    let trace = soft::trace();
    let hazard = trace.last().expect("something ran");
    assert!(hazard.kind == "hazard" && hazard.name.starts_with("free-of-"), "{hazard:?}");
    assert!(sum.to_vec1::<f32>().is_err());
    lost()
}

fn no_device() {
    let refused = CudaDevice::new(0).unwrap_err();
    assert_eq!(answer(&refused), Some(CUresult::CUDA_ERROR_NO_DEVICE), "{refused}");
}

// 3D convolution on CPU, float32, channels last: forward, input gradient, kernel gradient.
//
// Direct convolution: a micro-kernel keeps the sums of several neighbouring outputs x one or two
// registers of channels, and runs through taps and input channels. Inputs are first copied into
// rows that lie in the cache, kernels into the order of reading; no patch matrix is ever made.
// (Georganas et al., Anatomy of high-performance deep learning convolutions, SC 2018.)

#include "conv_correlate.h"
#include "conv_kernel_gradient.h"
#include "xla/ffi/api/ffi.h"

namespace {

namespace ffi = xla::ffi;
using jaxmedgen::Axis;
using Numbers = ffi::Span<const int64_t>;
using Input = ffi::Buffer<ffi::F32, 5>;
using Output = ffi::Result<ffi::Buffer<ffi::F32, 5>>;

template <typename A, typename B, typename C>
void SetAxes(Axis* axis, const A& in, const B& out, const C& kernel, Numbers stride,
             Numbers dilation, Numbers pad, bool adjoint) {
  for (int i = 0; i < 3; ++i)
    axis[i] = {in[i + 1], out[i + 1], kernel[i], stride[i], dilation[i], pad[i], adjoint};
}

ffi::Error Conv(ffi::ThreadPool pool, Numbers stride, Numbers dilation, Numbers pad, Input x,
                Input kernel, Output y) {
  const int64_t ci = kernel.dimensions()[3], co = kernel.dimensions()[4];
  jaxmedgen::Correlation p{x.dimensions()[0], ci, co, {}, co, 1};
  SetAxes(p.axis, x.dimensions(), y->dimensions(), kernel.dimensions(), stride, dilation, pad,
          false);
  jaxmedgen::Correlate(pool, p, x.typed_data(), kernel.typed_data(), y->typed_data());
  return ffi::Error::Success();
}

ffi::Error ConvInputGradient(ffi::ThreadPool pool, Numbers stride, Numbers dilation, Numbers pad,
                             Input g, Input kernel, Output dx) {
  const int64_t ci = kernel.dimensions()[3], co = kernel.dimensions()[4];
  jaxmedgen::Correlation p{g.dimensions()[0], co, ci, {}, 1, co};
  SetAxes(p.axis, g.dimensions(), dx->dimensions(), kernel.dimensions(), stride, dilation, pad,
          true);
  jaxmedgen::Correlate(pool, p, g.typed_data(), kernel.typed_data(), dx->typed_data());
  return ffi::Error::Success();
}

ffi::Error ConvKernelGradient(ffi::ThreadPool pool, Numbers stride, Numbers dilation, Numbers pad,
                              Input x, Input g, Output dw) {
  const int64_t ci = x.dimensions()[4], co = g.dimensions()[4];
  jaxmedgen::KernelGradient p{x.dimensions()[0], ci, co, {}};
  SetAxes(p.axis, x.dimensions(), g.dimensions(), dw->dimensions(), stride, dilation, pad, false);
  bool dense = true;
  for (const Axis& a : p.axis) dense = dense && a.stride == 1;
  // The side with more channels fills the registers.
  const bool swapped = dense && co < jaxmedgen::kLanes && ci > co;
  const float *a = x.typed_data(), *b = g.typed_data();
  if (swapped) {
    std::swap(p.in_channels, p.out_channels);
    std::swap(a, b);
    for (Axis& axis : p.axis) {
      std::swap(axis.in, axis.out);
      axis.pad = (axis.taps - 1) * axis.dilation - axis.pad;
    }
  }
  jaxmedgen::ComputeKernelGradient(pool, p, a, b, dw->typed_data(), swapped);
  return ffi::Error::Success();
}

}  // namespace

#define JAXMEDGEN_CONV_BINDING()        \
  ffi::Ffi::Bind()                      \
      .Ctx<ffi::ThreadPool>()           \
      .Attr<Numbers>("stride")          \
      .Attr<Numbers>("dilation")        \
      .Attr<Numbers>("pad")             \
      .Arg<ffi::Buffer<ffi::F32, 5>>()  \
      .Arg<ffi::Buffer<ffi::F32, 5>>()  \
      .Ret<ffi::Buffer<ffi::F32, 5>>()

XLA_FFI_DEFINE_HANDLER_SYMBOL(Conv3d, Conv, JAXMEDGEN_CONV_BINDING());
XLA_FFI_DEFINE_HANDLER_SYMBOL(Conv3dInputGradient, ConvInputGradient, JAXMEDGEN_CONV_BINDING());
XLA_FFI_DEFINE_HANDLER_SYMBOL(Conv3dKernelGradient, ConvKernelGradient, JAXMEDGEN_CONV_BINDING());

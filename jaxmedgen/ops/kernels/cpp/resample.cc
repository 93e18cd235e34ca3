// Sampling of images at arbitrary coordinates, and the transposes of its derivatives.
//
// Points are worked on in blocks. First come the taps of a block: on each axis the indices and
// weights of the voxels around each point, in loops over points that fill vector registers. They
// alone know about orders and borders. Then voxels are gathered or scattered along these taps.
//
// The gradient of the image is a sum over points. Each task owns a slab of planes of it, and visits
// the blocks of points that touch its planes: nothing is written by two tasks, no copies of the
// gradient are needed, and the sums have the same order, hence the same rounding, on any machine.
//
// A 2D image is treated as a volume whose middle axis has one voxel and one tap.
#include "resample_passes.h"

namespace ffi = xla::ffi;

namespace jaxmedgen {
namespace {

Geometry Measure(ffi::AnyBuffer::Dimensions image, ffi::AnyBuffer::Dimensions x) {
  Geometry shape;
  shape.axes = image.size() - 2;
  shape.batch = image.front();
  shape.channels = image.back();
  shape.points = x[1];
  const bool flat = shape.axes == 2;
  const int64_t size[3] = {image[1], flat ? 1 : image[2], flat ? image[2] : image[3]};
  int64_t stride = shape.channels;
  for (int axis = 2; axis >= 0; --axis) {
    shape.size[axis] = size[axis];
    shape.stride[axis] = stride;
    stride *= size[axis];
  }
  shape.voxels = stride / std::max<int64_t>(shape.channels, 1);
  shape.column[0] = 0;
  shape.column[1] = flat ? -1 : 1;
  shape.column[2] = flat ? 1 : 2;
  return shape;
}

// Calls body with the order and the number of taps on the middle axis as constants.
template <typename Body>
void Specialise(int64_t order, int axes, const Body& body) {
  const auto with = [&](auto kOrder) {
    if (axes == 2) return body(kOrder, std::integral_constant<int, 1>());
    return body(kOrder, std::integral_constant<int, TapCount(kOrder())>());
  };
  if (order == 0) return with(std::integral_constant<int, 0>());
  if (order == 1) return with(std::integral_constant<int, 1>());
  return with(std::integral_constant<int, 3>());
}

using Array = ffi::Buffer<ffi::F32>;
using Result = ffi::ResultBuffer<ffi::F32>;

ffi::Error Sample(ffi::ThreadPool pool, Array image, Array x, Result out, int64_t order,
                  int64_t mode) {
  const Geometry shape = Measure(image.dimensions(), x.dimensions());
  Specialise(order, shape.axes, [&](auto kOrder, auto kMiddle) {
    SampleAll<kOrder(), kMiddle()>(pool, shape, static_cast<Mode>(mode), image.typed_data(),
                                   x.typed_data(), out->typed_data());
  });
  return ffi::Error::Success();
}

ffi::Error ImageGradient(ffi::ThreadPool pool, Array x, Array g, Result image_gradient,
                         int64_t order, int64_t mode) {
  const Geometry shape = Measure(image_gradient->dimensions(), x.dimensions());
  Specialise(order, shape.axes, [&](auto kOrder, auto kMiddle) {
    ScatterAll<kOrder(), kMiddle(), true, false>(pool, shape, static_cast<Mode>(mode), nullptr,
                                                 x.typed_data(), g.typed_data(),
                                                 image_gradient->typed_data(), nullptr);
  });
  return ffi::Error::Success();
}

ffi::Error CoordinateGradient(ffi::ThreadPool pool, Array image, Array x, Array g,
                              Result x_gradient, int64_t order, int64_t mode) {
  const Geometry shape = Measure(image.dimensions(), x.dimensions());
  Specialise(order, shape.axes, [&](auto kOrder, auto kMiddle) {
    ScatterAll<kOrder(), kMiddle(), false, true>(pool, shape, static_cast<Mode>(mode),
                                                 image.typed_data(), x.typed_data(),
                                                 g.typed_data(), nullptr,
                                                 x_gradient->typed_data());
  });
  return ffi::Error::Success();
}

ffi::Error Gradients(ffi::ThreadPool pool, Array image, Array x, Array g, Result image_gradient,
                     Result x_gradient, int64_t order, int64_t mode) {
  const Geometry shape = Measure(image.dimensions(), x.dimensions());
  Specialise(order, shape.axes, [&](auto kOrder, auto kMiddle) {
    ScatterAll<kOrder(), kMiddle(), true, true>(pool, shape, static_cast<Mode>(mode),
                                                image.typed_data(), x.typed_data(),
                                                g.typed_data(), image_gradient->typed_data(),
                                                x_gradient->typed_data());
  });
  return ffi::Error::Success();
}

}  // namespace
}  // namespace jaxmedgen

XLA_FFI_DEFINE_HANDLER_SYMBOL(ResampleForward, jaxmedgen::Sample,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<jaxmedgen::Array>()
                                  .Arg<jaxmedgen::Array>()
                                  .Ret<jaxmedgen::Array>()
                                  .Attr<int64_t>("order")
                                  .Attr<int64_t>("mode"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(ResampleImageGradient, jaxmedgen::ImageGradient,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<jaxmedgen::Array>()
                                  .Arg<jaxmedgen::Array>()
                                  .Ret<jaxmedgen::Array>()
                                  .Attr<int64_t>("order")
                                  .Attr<int64_t>("mode"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(ResampleCoordinateGradient, jaxmedgen::CoordinateGradient,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<jaxmedgen::Array>()
                                  .Arg<jaxmedgen::Array>()
                                  .Arg<jaxmedgen::Array>()
                                  .Ret<jaxmedgen::Array>()
                                  .Attr<int64_t>("order")
                                  .Attr<int64_t>("mode"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(ResampleGradients, jaxmedgen::Gradients,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<jaxmedgen::Array>()
                                  .Arg<jaxmedgen::Array>()
                                  .Arg<jaxmedgen::Array>()
                                  .Ret<jaxmedgen::Array>()
                                  .Ret<jaxmedgen::Array>()
                                  .Attr<int64_t>("order")
                                  .Attr<int64_t>("mode"));

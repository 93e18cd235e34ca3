// Passes over all points: gathering voxels, and scattering cotangents back.
#ifndef JAXMEDGEN_RESAMPLE_PASSES_H_
#define JAXMEDGEN_RESAMPLE_PASSES_H_

#include <cstring>
#include <type_traits>
#include <vector>

#include "parallel.h"
#include "resample_taps.h"

namespace jaxmedgen {

// W channels at a time.
template <int W>
struct Vector;

template <>
struct Vector<2> {
  typedef float V __attribute__((vector_size(8)));
};

template <>
struct Vector<4> {
  typedef float V __attribute__((vector_size(16)));
};

template <>
struct Vector<8> {
  typedef float V __attribute__((vector_size(32)));
};

template <int W>
struct Pack : Vector<W> {
  using typename Vector<W>::V;
  static V Load(const float* p) {
    V v;
    std::memcpy(&v, p, sizeof(v));
    return v;
  }
  static void Store(float* p, V v) { std::memcpy(p, &v, sizeof(v)); }
  static float Sum(V v) {
    float sum = 0.0f;
    for (int c = 0; c < W; ++c) sum += v[c];
    return sum;
  }
};

template <>
struct Pack<1> {
  using V = float;
  static V Load(const float* p) { return *p; }
  static void Store(float* p, V v) { *p = v; }
  static float Sum(V v) { return v; }
};

// Calls body(W, c) for blocks of W channels from c on that cover all. Three are two and one: moving
// twelve bytes at once is slower.
template <typename Body>
void ForChannels(int64_t channels, const Body& body) {
  int64_t c = 0;
  for (; channels - c >= 8; c += 8) body(std::integral_constant<int, 8>(), c);
  if (channels - c >= 4) {
    body(std::integral_constant<int, 4>(), c);
    c += 4;
  }
  if (channels - c >= 2) {
    body(std::integral_constant<int, 2>(), c);
    c += 2;
  }
  if (channels - c == 1) body(std::integral_constant<int, 1>(), c);
}

template <int kTaps, int kMiddle, int W>
void Gather(const Taps<kTaps>& taps, int count, const float* __restrict image, int64_t channels,
            float* __restrict out) {
  using P = Pack<W>;
  for (int i = 0; i < count; ++i) {
    // Keeps compilers from vectorising over points: gather instructions are slower than loads.
    asm volatile("");
    typename P::V sum{};
    for (int k0 = 0; k0 < kTaps; ++k0) {
      for (int k1 = 0; k1 < kMiddle; ++k1) {
        const float* row = image + (taps.index[0][k0][i] + taps.index[1][k1][i]);
        const float w = taps.weight[0][k0][i] * taps.weight[1][k1][i];
        for (int k2 = 0; k2 < kTaps; ++k2) {
          sum += (w * taps.weight[2][k2][i]) * P::Load(row + taps.index[2][k2][i]);
        }
      }
    }
    P::Store(out + i * channels, sum);
  }
}

template <int kOrder, int kMiddle>
void SampleAll(xla::ffi::ThreadPool& pool, const Geometry& shape, Mode mode, const float* image,
               const float* x, float* out) {
  constexpr int kTaps = TapCount(kOrder);
  const int64_t chunks = (shape.points + kChunk - 1) / kChunk;
  ParallelFor(pool, shape.batch * chunks, [=](int64_t task) {
    const int64_t b = task / chunks, begin = task % chunks * kChunk;
    const int64_t end = std::min(begin + kChunk, shape.points);
    const float* voxels = image + b * shape.voxels * shape.channels;
    Taps<kTaps> taps;
    for (int64_t p = begin; p < end; p += kBlock) {
      const int count = std::min<int64_t>(kBlock, end - p);
      const int64_t at = b * shape.points + p;
      ComputeTaps<kOrder, false>(shape, mode, x + at * shape.axes, count, 0, 3, taps);
      float* to = out + at * shape.channels;
      ForChannels(shape.channels, [&](auto width, int64_t c) {
        Gather<kTaps, kMiddle, width()>(taps, count, voxels + c, shape.channels, to + c);
      });
    }
  });
}

// A block's part in the gradients, from channels [c, c + W) of the cotangent g.
//
// Planes in [low, high) of the image's gradient (offsets in floats) may be written; the gradient of
// a coordinate belongs to who owns its first tap.
template <int kTaps, int kMiddle, int W, bool kImage, bool kCoordinates>
void Scatter(const Taps<kTaps>& taps, int count, const float* __restrict image,
             const float* __restrict g, int64_t channels, int32_t low, int32_t high,
             float* __restrict image_gradient, float (*__restrict gradient)[kBlock]) {
  using P = Pack<W>;
  const auto owned = [&](int32_t plane) { return plane >= low && plane < high; };
  for (int i = 0; i < count; ++i) {
    const typename P::V cotangent = P::Load(g + i * channels);
    typename P::V d0{}, d1{}, d2{};
    const bool first = kCoordinates && owned(taps.index[0][0][i]);
    for (int k0 = 0; k0 < kTaps; ++k0) {
      const int32_t plane = taps.index[0][k0][i];
      const bool write = kImage && owned(plane);
      if (!write && !first) continue;
      const float w0 = taps.weight[0][k0][i];
      for (int k1 = 0; k1 < kMiddle; ++k1) {
        const int32_t row = plane + taps.index[1][k1][i];
        const float w1 = taps.weight[1][k1][i];
        if (write) {
          const typename P::V part = (w0 * w1) * cotangent;
          for (int k2 = 0; k2 < kTaps; ++k2) {
            float* to = image_gradient + (row + taps.index[2][k2][i]);
            P::Store(to, P::Load(to) + taps.weight[2][k2][i] * part);
          }
        }
        if (first) {
          typename P::V value{}, slope{};
          for (int k2 = 0; k2 < kTaps; ++k2) {
            const typename P::V voxel = P::Load(image + (row + taps.index[2][k2][i]));
            value += taps.weight[2][k2][i] * voxel;
            slope += taps.slope[2][k2][i] * voxel;
          }
          d0 += (taps.slope[0][k0][i] * w1) * value;
          if (kMiddle > 1) d1 += (w0 * taps.slope[1][k1][i]) * value;
          d2 += (w0 * w1) * slope;
        }
      }
    }
    if (first) {
      gradient[0][i] += P::Sum(cotangent * d0);
      if (kMiddle > 1) gradient[1][i] += P::Sum(cotangent * d1);
      gradient[2][i] += P::Sum(cotangent * d2);
    }
  }
}

template <int kOrder, int kMiddle, bool kImage, bool kCoordinates>
void ScatterBlock(const Geometry& shape, Mode mode, const float* image, const float* x,
                  const float* g, int64_t b, int64_t begin, int32_t low, int32_t high,
                  float* image_gradient, float* x_gradient) {
  Taps<TapCount(kOrder)> taps;
  const int count = std::min<int64_t>(kBlock, shape.points - begin);
  const int64_t origin = b * shape.voxels * shape.channels;
  const int64_t at = b * shape.points + begin;
  ComputeTaps<kOrder, kCoordinates>(shape, mode, x + at * shape.axes, count, 0, 3, taps);
  float gradient[3][kBlock] = {};
  ForChannels(shape.channels, [&](auto width, int64_t c) {
    Scatter<TapCount(kOrder), kMiddle, width(), kImage, kCoordinates>(
        taps, count, kCoordinates ? image + origin + c : nullptr, g + at * shape.channels + c,
        shape.channels, low, high, kImage ? image_gradient + origin + c : nullptr, gradient);
  });
  if (!kCoordinates) return;
  for (int i = 0; i < count; ++i) {
    if (taps.index[0][0][i] < low || taps.index[0][0][i] >= high) continue;
    for (int axis = 0; axis < 3; ++axis) {
      if (shape.column[axis] < 0) continue;
      x_gradient[(at + i) * shape.axes + shape.column[axis]] = gradient[axis][i];
    }
  }
}

struct Range {
  int32_t low, high;  // smallest and largest plane touched, in floats
};

template <int kOrder>
Range PlaneRange(const Geometry& shape, Mode mode, const float* x, int count) {
  Taps<TapCount(kOrder)> taps;
  ComputeTaps<kOrder, false>(shape, mode, x, count, 0, 1, taps);
  Range range{INT32_MAX, 0};
  for (int k = 0; k < TapCount(kOrder); ++k) {
    for (int i = 0; i < count; ++i) {
      range.low = std::min(range.low, taps.index[0][k][i]);
      range.high = std::max(range.high, taps.index[0][k][i]);
    }
  }
  return range;
}

template <int kOrder, int kMiddle, bool kImage, bool kCoordinates>
void ScatterAll(xla::ffi::ThreadPool& pool, const Geometry& shape, Mode mode, const float* image,
                const float* x, const float* g, float* image_gradient, float* x_gradient) {
  const int64_t blocks = (shape.points + kBlock - 1) / kBlock;
  // Calls body(batch, block) for all blocks, several of them a task.
  const auto for_blocks = [&](auto body) {
    const int64_t chunks = (shape.points + kChunk - 1) / kChunk;
    ParallelFor(pool, shape.batch * chunks, [=](int64_t task) {
      const int64_t first = task % chunks * (kChunk / kBlock);
      const int64_t end = std::min(first + kChunk / kBlock, blocks);
      for (int64_t block = first; block < end; ++block) body(task / chunks, block);
    });
  };
  if constexpr (!kImage) {
    for_blocks([=](int64_t b, int64_t block) {
      ScatterBlock<kOrder, kMiddle, false, kCoordinates>(
          shape, mode, image, x, g, b, block * kBlock, 0, INT32_MAX, nullptr, x_gradient);
    });
    return;
  }
  std::vector<Range> ranges(shape.batch * blocks);
  Range* const range = ranges.data();
  for_blocks([=](int64_t b, int64_t block) {
    const int64_t begin = block * kBlock;
    const int count = std::min<int64_t>(kBlock, shape.points - begin);
    const float* from = x + (b * shape.points + begin) * shape.axes;
    range[b * blocks + block] = PlaneRange<kOrder>(shape, mode, from, count);
  });
  // A few slabs a thread, so that none waits long for another.
  const int64_t wanted = std::max<int64_t>(4 * pool.num_threads() / shape.batch, 1);
  const int64_t slabs = std::min<int64_t>(shape.size[0], wanted);
  const int64_t plane = shape.stride[0];
  ParallelFor(pool, shape.batch * slabs, [=](int64_t task) {
    const int64_t b = task / slabs, slab = task % slabs;
    const int32_t low = slab * shape.size[0] / slabs * plane;
    const int32_t high = (slab + 1) * shape.size[0] / slabs * plane;
    float* const to = image_gradient + b * shape.voxels * shape.channels;
    std::memset(to + low, 0, (high - low) * sizeof(float));
    for (int64_t block = 0; block < blocks; ++block) {
      const Range touched = range[b * blocks + block];
      if (touched.high < low || touched.low >= high) continue;
      ScatterBlock<kOrder, kMiddle, true, kCoordinates>(shape, mode, image, x, g, b,
                                                        block * kBlock, low, high,
                                                        image_gradient, x_gradient);
    }
  });
}

}  // namespace jaxmedgen

#endif  // JAXMEDGEN_RESAMPLE_PASSES_H_

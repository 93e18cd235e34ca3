// Which voxels a sampled point sees and with what weights, for every order and border mode.
#ifndef JAXMEDGEN_RESAMPLE_TAPS_H_
#define JAXMEDGEN_RESAMPLE_TAPS_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <vector>

namespace jaxmedgen {

constexpr int kBlock = 64;    // points whose taps are held at once
constexpr int kChunk = 1024;  // points of one task, a multiple of the above
constexpr int kReach = 40;    // voxels over which a spline of padded data dies out, 1e-23

enum Mode { kBorder = 0, kConstant = 1, kReflect = 2, kWrap = 3 };

constexpr int TapCount(int order) { return order == 0 ? 1 : order + 1; }

template <int kTaps>
struct Taps {
  int32_t index[3][kTaps][kBlock];  // offset of the voxel in floats
  float weight[3][kTaps][kBlock];
  float slope[3][kTaps][kBlock];  // derivative of the weight
};

struct Geometry {
  int64_t batch, points, channels, voxels;
  int axes;           // 2 or 3
  int32_t size[3];    // of the volume, 1 in the middle for an image
  int32_t stride[3];  // in floats
  int column[3];      // component of the coordinates on each axis, -1 for none
};

inline int32_t Clamp(int32_t v, int32_t low, int32_t high) {
  return v < low ? low : (v > high ? high : v);
}

inline float Clamp(float v, float low, float high) {
  return v < low ? low : (v > high ? high : v);  // keeps NaN
}

inline const float* Decay() {
  static const auto table = [] {
    std::vector<float> values;
    for (int d = 0; d <= kReach + 3; ++d) values.push_back(std::pow(std::sqrt(3.0) - 2.0, d));
    return values;
  }();
  return table.data();
}

// Indices, weights and slopes on one axis of kBlock coordinates x.
template <int kOrder, int kMode, bool kSlope>
void AxisTaps(const float* __restrict x, int32_t size, int32_t stride,
              int32_t (*__restrict index)[kBlock], float (*__restrict weight)[kBlock],
              float (*__restrict slope)[kBlock]) {
  constexpr int kTaps = TapCount(kOrder);
  constexpr bool kMirror = kMode == kReflect || (kMode == kBorder && kOrder == 3);
  constexpr float kOutside = kOrder == 3 ? kReach : 2;
  const int32_t top = size - 1;
  const int32_t period = kMode == kWrap ? size : std::max(2 * top, 1);
  const float* __restrict decay = Decay();
  for (int i = 0; i < kBlock; ++i) {
    float v = x[i], keep = 1.0f;
    int32_t last;  // largest index of the voxel below
    int32_t first = 0;
    if constexpr (kMode == kBorder) {
      keep = (v >= 0.0f && v <= top) ? 1.0f : 0.0f;
      v = Clamp(v, 0.0f, static_cast<float>(top));
      last = kOrder == 0 ? top : std::max(top - 1, 0);
    } else if constexpr (kMode == kConstant) {
      v = Clamp(v, -kOutside, top + kOutside);
      first = -static_cast<int32_t>(kOutside);
      last = top + static_cast<int32_t>(kOutside);
    } else {
      v = v - period * std::floor(v / period);
      last = kOrder == 0 ? period : period - 1;
    }
    // The clamp also keeps the index of a NaN inside; its weights stay NaN.
    const float below = std::floor(kOrder == 0 ? v + 0.5f : v);
    const int32_t low = Clamp(static_cast<int32_t>(below), first, last);
    const float t = v - low;
    float w[4], s[4];
    if constexpr (kOrder == 0) {
      w[0] = 1.0f;
      s[0] = 0.0f;
    } else if constexpr (kOrder == 1) {
      w[0] = 1.0f - t;
      w[1] = t;
      s[0] = -1.0f;
      s[1] = 1.0f;
    } else {
      const float u = 1.0f - t;
      w[0] = u * u * u / 6.0f;
      w[1] = ((0.5f * t - 1.0f) * t) * t + 2.0f / 3.0f;
      w[2] = ((0.5f * u - 1.0f) * u) * u + 2.0f / 3.0f;
      w[3] = t * t * t / 6.0f;
      s[0] = -0.5f * u * u;
      s[1] = (1.5f * t - 2.0f) * t;
      s[2] = -(1.5f * u - 2.0f) * u;
      s[3] = 0.5f * t * t;
    }
    for (int k = 0; k < kTaps; ++k) {
      int32_t j = low + k - (kOrder == 3 ? 1 : 0);
      float factor = 1.0f;
      if constexpr (kMode == kConstant && kOrder == 3) {
        factor = decay[j < 0 ? -j : (j > top ? j - top : 0)];
      } else if constexpr (kMode == kConstant) {
        factor = (j >= 0 && j <= top) ? 1.0f : 0.0f;
      } else if constexpr (kMirror) {
        j = std::abs(j);
        j = j > top ? std::abs(2 * top - j) : j;
      } else if constexpr (kMode == kWrap) {
        j = j < 0 ? j + size : (j > top ? j - size : j);
      }
      index[k][i] = Clamp(j, 0, top) * stride;
      weight[k][i] = w[k] * factor;
      if constexpr (kSlope) slope[k][i] = s[k] * factor * keep;
    }
  }
}

template <int kOrder, bool kSlope>
void AxisTaps(Mode mode, const float* x, int32_t size, int32_t stride, int32_t (*index)[kBlock],
              float (*weight)[kBlock], float (*slope)[kBlock]) {
  switch (mode) {
    case kBorder:
      return AxisTaps<kOrder, kBorder, kSlope>(x, size, stride, index, weight, slope);
    case kConstant:
      return AxisTaps<kOrder, kConstant, kSlope>(x, size, stride, index, weight, slope);
    case kReflect:
      return AxisTaps<kOrder, kReflect, kSlope>(x, size, stride, index, weight, slope);
    case kWrap:
      return AxisTaps<kOrder, kWrap, kSlope>(x, size, stride, index, weight, slope);
  }
}

// Taps of `count` points whose coordinates start at x, on the axes in [begin, end).
template <int kOrder, bool kSlope>
void ComputeTaps(const Geometry& shape, Mode mode, const float* x, int count, int begin, int end,
                 Taps<TapCount(kOrder)>& taps) {
  float coordinate[kBlock] = {};
  for (int axis = begin; axis < end; ++axis) {
    const int column = shape.column[axis];
    if (column < 0) continue;
    for (int i = 0; i < count; ++i) coordinate[i] = x[i * shape.axes + column];
    AxisTaps<kOrder, kSlope>(mode, coordinate, shape.size[axis], shape.stride[axis],
                             taps.index[axis], taps.weight[axis], taps.slope[axis]);
  }
  if (shape.axes == 2) {
    for (int i = 0; i < kBlock; ++i) {
      taps.index[1][0][i] = 0;
      taps.weight[1][0][i] = 1.0f;
      taps.slope[1][0][i] = 0.0f;
    }
  }
}

}  // namespace jaxmedgen

#endif  // JAXMEDGEN_RESAMPLE_TAPS_H_

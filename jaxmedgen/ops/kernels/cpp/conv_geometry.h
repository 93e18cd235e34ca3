// What the convolution kernels share: vector registers, which input meets which tap, packed rows.
#ifndef JAXMEDGEN_CONV_GEOMETRY_H_
#define JAXMEDGEN_CONV_GEOMETRY_H_

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

namespace jaxmedgen {

// The widest registers there are, and how many of them sums may occupy.
#if defined(__AVX512F__)
constexpr int kLanes = 16, kSums = 28;
#elif defined(__AVX2__)
constexpr int kLanes = 8, kSums = 12;
#elif defined(__aarch64__)
constexpr int kLanes = 4, kSums = 24;
#else
constexpr int kLanes = 4, kSums = 12;
#endif
typedef float Vec __attribute__((vector_size(4 * kLanes)));
typedef float Loose __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));

constexpr int64_t kBlock = 16;            // channels that lie side by side in a packed row
constexpr int64_t kCache = 384 * 1024;    // bytes of packed input a thread works on

inline int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Memory of one thread, kept between calls and aligned to cache lines.
class Scratch {
 public:
  ~Scratch() { std::free(data_); }
  float* Get(int64_t floats) {
    if (floats > size_) {
      std::free(data_);
      size_ = CeilDiv(floats, 16) * 16;
      data_ = static_cast<float*>(std::aligned_alloc(64, 4 * size_));
    }
    return data_;
  }

 private:
  float* data_ = nullptr;
  int64_t size_ = 0;
};

// One axis of a convolution (out = what is computed) or, `adjoint`, of its input gradient.
struct Axis {
  int64_t in, out, taps, stride, dilation, pad;
  bool adjoint = false;

  // Whether output i uses tap t, and at which input position.
  bool Meets(int64_t i, int64_t t, int64_t* at) const {
    if (adjoint) {
      *at = i + pad - t * dilation;
      if (*at < 0 || *at % stride != 0) return false;
      *at /= stride;
    } else {
      *at = i * stride + t * dilation - pad;
    }
    return *at >= 0 && *at < in;
  }

  // Lowest and one past the highest input position that outputs [begin, end) use.
  std::pair<int64_t, int64_t> Range(int64_t begin, int64_t end) const {
    int64_t low = in, high = 0;
    for (int64_t i = begin; i < end; ++i)
      for (int64_t t = 0, at; t < taps; ++t)
        if (Meets(i, t, &at)) low = std::min(low, at), high = std::max(high, at + 1);
    return {std::min(low, high), high};
  }
};

// Outputs first + step * q + [0, merged) of a row, q in [0, count): they use the input positions
// advance * q + offset, and tap[reach][j] weighs what the reach gives to the j-th merged output.
struct Phase {
  int64_t first, step, merged, count;
  std::vector<int64_t> offset, tap;
};

// The last axis. Few channels leave lanes of a register empty; neighbouring outputs, which follow
// each other in memory, are then computed as channels of one wider output. Otherwise the phases of
// a strided gradient are separate dense problems.
struct RowPlan {
  int64_t advance, lowest, highest;
  std::vector<Phase> phases;
};

inline RowPlan PlanRow(const Axis& a, int64_t merged) {
  const bool split = a.adjoint && merged % a.stride != 0;
  RowPlan plan{1, std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::min(), {}};
  plan.advance = a.adjoint ? (split ? 1 : merged / a.stride) : merged * a.stride;
  const int64_t step = split ? a.stride : merged;
  for (int64_t first = 0; first < (split ? std::min(a.stride, a.out) : 1); ++first) {
    Phase phase{first, step, merged, CeilDiv(a.out - first, step), {}, {}};
    std::vector<std::vector<int64_t>> found;  // offset, j, tap
    for (int64_t j = 0; j < merged; ++j) {
      for (int64_t t = 0; t < a.taps; ++t) {
        int64_t at = first + j + a.pad - t * a.dilation;
        if (!a.adjoint) {
          at = j * a.stride + t * a.dilation - a.pad;
        } else if (at % a.stride != 0) {
          continue;
        } else {
          at /= a.stride;
        }
        found.push_back({at, j, t});
      }
    }
    std::sort(found.begin(), found.end());
    for (const auto& f : found) {
      if (phase.offset.empty() || phase.offset.back() != f[0]) {
        phase.offset.push_back(f[0]);
        phase.tap.resize(phase.tap.size() + merged, -1);
      }
      phase.tap[phase.tap.size() - merged + f[1]] = f[2];
      plan.lowest = std::min(plan.lowest, f[0]);
      plan.highest = std::max(plan.highest, f[0]);
    }
    plan.phases.push_back(std::move(phase));
  }
  if (plan.lowest > plan.highest) plan.lowest = plan.highest = 0;
  return plan;
}

// A packed row is [channel block][position % advance][position / advance][width]: neighbouring outputs are a fixed number of floats apart whatever the stride, so that one pointer
// serves all sums of a micro-kernel, and the zeros around the image are part of it.
struct PackedRow {
  int64_t advance, length, width, channels, blocks;
  PackedRow(int64_t advance, int64_t length, int64_t channels)
      : advance(advance),
        length(length),
        width(channels == 1 ? 1 : kBlock),
        channels(channels),
        blocks(CeilDiv(channels, width)) {}
  int64_t block_floats() const { return advance * length * width; }
  int64_t floats() const { return CeilDiv(blocks * block_floats(), 16) * 16; }
  // Where position advance * q + shift of channel block 0 lies, in floats; shift >= 0.
  int64_t At(int64_t shift) const {
    return (shift % advance * length + shift / advance) * width;
  }

  // Copies `channels` of `row`, [size][stride], beginning at position `start`, zeros outside.
  void Pack(const float* row, int64_t size, int64_t stride, int64_t start, float* to) const {
    for (int64_t block = 0; block < blocks; ++block) {
      const int64_t n = std::min(width, channels - block * width);
      for (int64_t phase = 0; phase < advance; ++phase) {
        for (int64_t l = 0; l < length; ++l, to += width) {
          const int64_t at = start + phase + advance * l;
          const float* from = row + at * stride + block * width;
          if (at < 0 || at >= size) {
            for (int64_t c = 0; c < width; ++c) to[c] = 0;
          } else if (n == kBlock || (width > 1 && (size - 1 - at) * stride >= kBlock)) {
            std::memcpy(to, from, 4 * kBlock);  // of fewer channels with some of the next voxel
          } else {
            for (int64_t c = 0; c < n; ++c) to[c] = from[c];
          }
        }
      }
    }
  }
};

struct Tile {
  int64_t batch, plane, planes, row, rows;
};

// Cuts the output planes and rows into tiles whose packed input, `row_floats` a row, fits the
// cache; of those the cut that repacks least and keeps the threads evenly busy.
inline std::vector<Tile> CutTiles(int64_t batch, const Axis& planes, const Axis& rows,
                                  int64_t row_floats, int64_t pieces, int64_t threads,
                                  double packing_cost) {
  auto reach = [](const Axis& a, int64_t size) {
    const auto range = a.Range(0, std::min(size + a.taps, a.out));
    const int64_t whole = a.adjoint ? CeilDiv(size, a.stride) + CeilDiv(a.taps - 1, a.stride)
                                    : (size - 1) * a.stride + (a.taps - 1) * a.dilation + 1;
    return std::max<int64_t>(1, std::min(whole, range.second - range.first));
  };
  int64_t best_planes = 1, best_rows = 1;
  double best = std::numeric_limits<double>::max();
  for (int64_t p = planes.out, next; p >= 1; p = next) {
    next = CeilDiv(planes.out, p) + 1;
    next = std::min(p - 1, CeilDiv(planes.out, next));
    for (int64_t r = rows.out, below; r >= 1; r = below) {
      below = CeilDiv(rows.out, r) + 1;
      below = std::min(r - 1, CeilDiv(rows.out, below));
      const int64_t packed = reach(planes, p) * reach(rows, r);
      if (4 * packed * row_floats > kCache && (p > 1 || r > 1)) continue;
      const int64_t tasks = batch * pieces * CeilDiv(planes.out, p) * CeilDiv(rows.out, r);
      const double uneven = static_cast<double>(CeilDiv(tasks, threads) * threads) / tasks;
      // A thread that starts late or is interrupted leaves its share to others only if that is cut.
      const double coarse = threads > 1 ? 0.1 * threads / tasks : 0.0;
      const double cost = (uneven + coarse) * (1 + packing_cost * packed / (p * r));
      if (cost < best) best = cost, best_planes = p, best_rows = r;
    }
  }
  std::vector<Tile> tiles;
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t p = 0; p < planes.out; p += best_planes)
      for (int64_t r = 0; r < rows.out; r += best_rows)
        tiles.push_back({b, p, std::min(best_planes, planes.out - p), r,
                         std::min(best_rows, rows.out - r)});
  return tiles;
}

}  // namespace jaxmedgen

#endif  // JAXMEDGEN_CONV_GEOMETRY_H_

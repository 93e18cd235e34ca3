// Convolution and its input gradient: both weigh and add the inputs that an output meets.
#ifndef JAXMEDGEN_CONV_CORRELATE_H_
#define JAXMEDGEN_CONV_CORRELATE_H_

#include "conv_geometry.h"
#include "parallel.h"

namespace jaxmedgen {

struct Correlation {
  int64_t batch, in_channels, out_channels;
  Axis axis[3];
  // Strides of the kernel in floats; of taps: out_channels * in_channels.
  int64_t kernel_in, kernel_out;
};

// One call of a micro-kernel: sums of `voxels` outputs x up to 2 registers of channels.
struct Strip {
  const float* const* inputs;   // a packed row for each of the (plane, row) taps
  const float* const* weights;  // and its weights [channel block][reach][channel][lanes]
  int64_t pieces;
  const int64_t* reach;  // where in the packed row, in floats
  int64_t reaches, blocks, block_floats, last_channels;
  float* out;
  int64_t out_step;  // floats from one output to the next
  int64_t voxels;    // outputs to store
  int64_t lanes;     // of them channels to store
  int64_t end;       // floats from `out` to the end of its row
  bool add;
};

// Writes or adds sums [voxel][registers][lanes] where they belong.
__attribute__((noinline)) inline void Store(const Strip& s, const Vec* sums, int registers) {
  for (int64_t v = 0; v < s.voxels; ++v, sums += registers) {
    float* const out = s.out + v * s.out_step;
    const int64_t lanes = std::min(s.lanes, s.end - v * s.out_step);
    if (lanes == registers * kLanes) {
      for (int n = 0; n < registers; ++n) {
        Loose* to = reinterpret_cast<Loose*>(out + n * kLanes);
        *to = s.add ? *to + sums[n] : sums[n];
      }
      continue;
    }
    float values[2 * kLanes];
    std::memcpy(values, sums, sizeof(Vec) * registers);
    for (int64_t i = 0; i < lanes; ++i) out[i] = s.add ? out[i] + values[i] : values[i];
  }
}

template <int W, int V, int N>  // packed width, voxels, registers of channels
void Micro(const Strip& s) {
  Vec sum[V][N] = {};
  for (int64_t piece = 0; piece < s.pieces; ++piece) {
    const float* input = s.inputs[piece];
    const Vec* w = reinterpret_cast<const Vec*>(s.weights[piece]);
    for (int64_t block = 0; block < s.blocks; ++block, input += s.block_floats) {
      const int64_t channels = block + 1 < s.blocks ? W : s.last_channels;
      for (int64_t r = 0; r < s.reaches; ++r) {
        const float* x = input + s.reach[r];
        for (int64_t c = 0; c < channels; ++c, ++x, w += N) {
#pragma GCC unroll 32
          for (int v = 0; v < V; ++v) {
#pragma GCC unroll 2
            for (int n = 0; n < N; ++n) sum[v][n] += x[v * W] * w[n];
          }
        }
      }
    }
  }
  Vec sums[V * N];
#pragma GCC unroll 32
  for (int v = 0; v < V; ++v) {
#pragma GCC unroll 2
    for (int n = 0; n < N; ++n) sums[v * N + n] = sum[v][n];
  }
  Store(s, sums, N);
}

struct Kernel {
  int voxels;
  void (*run)(const Strip&);
};

// From many voxels to few; the best size divides the row with little left over.
template <int W, int N>
const Kernel* Kernels(int* count) {
  constexpr int kMost = kSums / N;
  static const Kernel kernels[] = {
      {kMost, Micro<W, kMost, N>},
      {kMost * 6 / 7, Micro<W, kMost * 6 / 7, N>},
      {kMost * 4 / 7, Micro<W, kMost * 4 / 7, N>},
      {kMost * 3 / 7, Micro<W, kMost * 3 / 7, N>},
      {(kMost + 6) / 7, Micro<W, (kMost + 6) / 7, N>},
  };
  *count = sizeof(kernels) / sizeof(kernels[0]);
  return kernels;
}

inline Kernel ChooseKernel(int64_t width, int64_t registers, int64_t voxels, double* least) {
  int count = 0;
  const Kernel* kernels = registers == 2
                              ? (width == 1 ? Kernels<1, 2>(&count) : Kernels<kBlock, 2>(&count))
                              : (width == 1 ? Kernels<1, 1>(&count) : Kernels<kBlock, 1>(&count));
  const Kernel* best = kernels;
  *least = std::numeric_limits<double>::max();
  for (int i = 0; i < count; ++i) {
    // Sums, the loads that go with them, and at least the latency of a sum.
    const double work = std::max<double>(kernels[i].voxels * registers + 2, 10);
    const double cost = CeilDiv(voxels, kernels[i].voxels) * work;
    if (cost < *least) *least = cost, best = &kernels[i];
  }
  return *best;
}

// Kernel weights in the order in which micro-kernels read them. A panel is
// [channel block][reach][channel][lanes] for one (plane, row) tap.
struct Panels {
  struct Group {  // up to two registers of one phase's channels
    int64_t phase, lane, registers;
  };
  std::vector<Group> groups;
  std::vector<Kernel> kernels;  // of the groups
  std::vector<int64_t> begin;   // of a group's panels
  int64_t total = 0;
  int64_t length = 0;  // of a packed row
  double cost = 0;     // of a row

  Panels(const RowPlan& plan, int64_t out_channels, int64_t channels, int64_t tap_pairs) {
    const int64_t width = PackedRow(1, 1, channels).width;
    for (size_t p = 0; p < plan.phases.size(); ++p) {
      const Phase& phase = plan.phases[p];
      const int64_t lanes = phase.merged * out_channels;
      for (int64_t lane = 0; lane < lanes; lane += 2 * kLanes) {
        const int64_t registers = lanes - lane > kLanes ? 2 : 1;
        groups.push_back({static_cast<int64_t>(p), lane, registers});
        begin.push_back(total);
        total += tap_pairs * phase.offset.size() * channels * registers * kLanes;
        double work;
        kernels.push_back(ChooseKernel(width, registers, phase.count, &work));
        cost += phase.offset.size() * work;
        const int64_t step = kernels.back().voxels;
        length = std::max(length, CeilDiv(phase.count, step) * step);
      }
    }
    length += (plan.highest - plan.lowest) / plan.advance + 1;
  }
};

inline void PackPanel(const Correlation& p, const Phase& phase, const Panels::Group& group,
                      int64_t width, int64_t first, int64_t channels, const float* kernel,
                      float* to) {
  const int64_t lanes = group.registers * kLanes, tap_floats = p.in_channels * p.out_channels;
  for (int64_t block = 0; block < channels; block += width) {
    for (size_t r = 0; r < phase.offset.size(); ++r) {
      const int64_t* taps = &phase.tap[r * phase.merged];
      for (int64_t c = block; c < std::min(channels, block + width); ++c, to += lanes) {
        const float* from = kernel + (first + c) * p.kernel_in;
        int64_t j = group.lane / p.out_channels, o = group.lane % p.out_channels;
        for (int64_t l = 0; l < lanes; ++j, o = 0) {
          const int64_t n = std::min(p.out_channels - o, lanes - l);
          if (j >= phase.merged || taps[j] < 0) {
            std::fill_n(to + l, n, 0.0f);
          } else {
            const float* tap = from + taps[j] * tap_floats + o * p.kernel_out;
            if (p.kernel_out == 1)
              std::copy_n(tap, n, to + l);
            else
              for (int64_t i = 0; i < n; ++i) to[l + i] = tap[i * p.kernel_out];
          }
          l += n;
        }
      }
    }
  }
}

inline void Correlate(xla::ffi::ThreadPool& pool, const Correlation& p, const float* in,
                      const float* kernel, float* out) {
  const Axis &deep = p.axis[0], &high = p.axis[1], &wide = p.axis[2];
  const int64_t threads = std::max<int64_t>(1, pool.num_threads());
  const int64_t pairs = deep.taps * high.taps;
  RowPlan plan = PlanRow(wide, 1);
  double least = Panels(plan, p.out_channels, p.in_channels, pairs).cost;
  for (int64_t merged = 2; merged * p.out_channels <= kLanes && merged <= wide.out; ++merged) {
    if (wide.adjoint && merged % wide.stride != 0) continue;
    RowPlan other = PlanRow(wide, merged);
    const double cost = Panels(other, p.out_channels, p.in_channels, pairs).cost;
    if (cost < least) least = cost, plan = std::move(other);
  }
  int64_t reaches = 1;
  for (const Phase& phase : plan.phases)
    reaches = std::max<int64_t>(reaches, phase.offset.size());
  // As many channels at a time as leave room in the second-level cache for a group's weights.
  const int64_t most = kCache / (4 * pairs * reaches * 2 * kLanes) / kBlock * kBlock;
  const int64_t chunk = std::min(p.in_channels, std::max(kBlock, most));
  const int64_t chunks = CeilDiv(p.in_channels, chunk);
  const Panels panels(plan, p.out_channels, chunk, pairs);
  const PackedRow shape(plan.advance, panels.length, chunk);
  const int64_t groups = panels.groups.size();

  static thread_local Scratch shared;
  float* const weights = shared.Get(chunks * panels.total);
  ParallelFor(pool, chunks * groups * pairs, [&](int64_t i) {
    const int64_t pair = i % pairs, g = i / pairs % groups, number = i / pairs / groups;
    const auto& group = panels.groups[g];
    const Phase& phase = plan.phases[group.phase];
    const int64_t channels = std::min(chunk, p.in_channels - number * chunk);
    const int64_t floats = phase.offset.size() * channels * group.registers * kLanes;
    PackPanel(p, phase, group, shape.width, number * chunk, channels,
              kernel + pair * wide.taps * p.in_channels * p.out_channels,
              weights + number * panels.total + panels.begin[g] + pair * floats);
  });

  // Small volumes with many channels are cut by channels as well.
  const int64_t rows = p.batch * deep.out * high.out;
  int64_t pieces = 1;
  while (pieces < groups && rows * pieces < 64 * threads) ++pieces;
  const double packing_cost = 4.0 / (pairs * reaches * CeilDiv(groups, pieces));
  const auto tiles =
      CutTiles(p.batch, deep, high, shape.floats(), pieces, threads, packing_cost);

  ParallelFor(pool, tiles.size() * pieces, [&](int64_t task) {
    const Tile& tile = tiles[task / pieces];
    const int64_t piece = task % pieces;
    const auto [plane0, plane1] = deep.Range(tile.plane, tile.plane + tile.planes);
    const auto [row0, row1] = high.Range(tile.row, tile.row + tile.rows);
    static thread_local Scratch local;
    float* const packed = local.Get((plane1 - plane0) * (row1 - row0) * shape.floats() + 16);
    std::vector<const float*> inputs(pairs), panel(pairs);
    std::vector<int64_t> reach(reaches);
    for (int64_t number = 0; number < chunks; ++number) {
      PackedRow part = shape;
      part.channels = std::min(chunk, p.in_channels - number * chunk);
      part.blocks = CeilDiv(part.channels, part.width);
      float* to = packed;
      for (int64_t d = plane0; d < plane1; ++d) {
        for (int64_t h = row0; h < row1; ++h, to += shape.floats()) {
          const int64_t row = (tile.batch * deep.in + d) * high.in + h;
          part.Pack(in + row * wide.in * p.in_channels + number * chunk, wide.in, p.in_channels,
                    plan.lowest, to);
        }
      }
      for (int64_t g = groups * piece / pieces; g < groups * (piece + 1) / pieces; ++g) {
        const auto& group = panels.groups[g];
        const Phase& phase = plan.phases[group.phase];
        const int64_t used = phase.offset.size();
        for (int64_t r = 0; r < used; ++r) reach[r] = part.At(phase.offset[r] - plan.lowest);
        const int64_t floats = used * part.channels * group.registers * kLanes;
        const float* own = weights + number * panels.total + panels.begin[g];
        Strip strip{};
        strip.inputs = inputs.data(), strip.weights = panel.data();
        strip.reach = reach.data(), strip.reaches = used;
        strip.blocks = part.blocks, strip.block_floats = part.block_floats();
        strip.last_channels = part.channels - (part.blocks - 1) * part.width;
        strip.out_step = phase.step * p.out_channels;
        strip.add = number > 0;
        const int64_t step = panels.kernels[g].voxels;
        strip.lanes = std::min(group.registers * kLanes,
                               phase.merged * p.out_channels - group.lane);
        for (int64_t od = tile.plane; od < tile.plane + tile.planes; ++od) {
          for (int64_t oh = tile.row; oh < tile.row + tile.rows; ++oh) {
            float* const row =
                out + ((tile.batch * deep.out + od) * high.out + oh) * wide.out * p.out_channels;
            for (int64_t q = 0; q < phase.count; q += step) {
              strip.pieces = 0;
              for (int64_t kd = 0, d; kd < deep.taps; ++kd) {
                if (!deep.Meets(od, kd, &d)) continue;
                for (int64_t kh = 0, h; kh < high.taps; ++kh) {
                  if (!high.Meets(oh, kh, &h)) continue;
                  inputs[strip.pieces] =
                      packed + ((d - plane0) * (row1 - row0) + h - row0) * shape.floats() +
                      q * part.width;
                  panel[strip.pieces++] = own + (kd * high.taps + kh) * floats;
                }
              }
              const int64_t at = (phase.first + q * phase.step) * p.out_channels + group.lane;
              strip.out = row + at;
              strip.end = wide.out * p.out_channels - at;
              strip.voxels = std::min<int64_t>(step, phase.count - q);
              panels.kernels[g].run(strip);
            }
          }
        }
      }
    }
  });
}

}  // namespace jaxmedgen

#endif  // JAXMEDGEN_CONV_CORRELATE_H_

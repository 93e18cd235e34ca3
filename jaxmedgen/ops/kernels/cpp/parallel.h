// Splits work over XLA's own thread pool; included by every kernel of this folder.
#ifndef JAXMEDGEN_PARALLEL_H_
#define JAXMEDGEN_PARALLEL_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>

#include "xla/ffi/api/ffi.h"

namespace jaxmedgen {

// Calls body(i) once for every i in [0, count), on the pool's threads and on this one.
//
// The caller takes pieces like any other worker and waits only for pieces that have begun, so that
// a pool whose every thread runs such a loop cannot deadlock. Late workers find nothing to do.
inline void ParallelFor(xla::ffi::ThreadPool& pool, int64_t count,
                        std::function<void(int64_t)> body) {
  struct State {
    std::function<void(int64_t)> body;
    std::atomic<int64_t> next{0}, done{0};
    int64_t count;
  };
  auto state = std::make_shared<State>();
  state->body = std::move(body);
  state->count = count;
  auto work = [state] {
    for (int64_t i; (i = state->next.fetch_add(1)) < state->count;) {
      state->body(i);
      state->done.fetch_add(1, std::memory_order_release);
    }
  };
  const int64_t helpers = std::min<int64_t>(pool.num_threads(), count) - 1;
  for (int64_t h = 0; h < helpers; ++h) pool.Schedule(std::function<void()>(work));
  work();
  while (state->done.load(std::memory_order_acquire) < count) std::this_thread::yield();
}

}  // namespace jaxmedgen

#endif  // JAXMEDGEN_PARALLEL_H_

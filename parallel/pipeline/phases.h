// Phases: work that stops on its way, so that other work may run while its messages travel.
//
//   Phases Twice(Ring& ring) {           // a coroutine; nothing runs before Next
//     ring.BeginSend();
//     co_await NextPhase();              // a phase ends
//     ring.FinishSend();
//     co_await Once(ring);               // the phases of other work, the caller's last and first with them
//   }
//   Twice(ring).Finish();                // all of it
//   RunPair(Twice(a), Twice(b));         // the two zipped
//
// A coroutine keeps references to what it was given by reference: that is to outlive it.
#ifndef JEVONS_PARALLEL_PIPELINE_PHASES_H_
#define JEVONS_PARALLEL_PIPELINE_PHASES_H_

#include <coroutine>
#include <exception>
#include <optional>
#include <utility>

#include "kernels/base/check.h"

namespace jevons {

using NextPhase = std::suspend_always;

class [[nodiscard]] Phases {
 public:
  struct promise_type;

  Phases(Phases&& other) noexcept : coroutine_(std::exchange(other.coroutine_, {})) {}
  Phases& operator=(Phases&&) = delete;
  ~Phases() {
    if (!coroutine_) return;
    JEVONS_CHECK(coroutine_.done(), "work of which phases are left");
    coroutine_.destroy();
  }

  // Runs the next phase. False: that was all.
  bool Next();
  void Finish() {
    while (Next()) {
    }
  }

 private:
  explicit Phases(std::coroutine_handle<promise_type> coroutine) : coroutine_(coroutine) {}
  std::coroutine_handle<promise_type> coroutine_;
};

struct Phases::promise_type {
  std::optional<Phases> inner;  // awaited: its phases come next

  Phases get_return_object() { return Phases(std::coroutine_handle<promise_type>::from_promise(*this)); }
  std::suspend_always initial_suspend() noexcept { return {}; }
  std::suspend_always final_suspend() noexcept { return {}; }
  void return_void() {}
  [[noreturn]] void unhandled_exception() { std::terminate(); }

  NextPhase await_transform(NextPhase next) { return next; }
  std::suspend_always await_transform(Phases&& work) {
    inner.emplace(std::move(work));
    return {};
  }
};

inline bool Phases::Next() {
  JEVONS_CHECK(!coroutine_.done(), "no phase is left");
  std::optional<Phases>& inner = coroutine_.promise().inner;
  for (;;) {
    if (inner.has_value()) {
      if (inner->Next()) return true;
      inner.reset();
    }
    coroutine_.resume();
    if (coroutine_.done()) return false;
    if (!inner.has_value()) return true;
  }
}

// A phase of the backward, a phase of the forward, and so on in turn; then what is left of the longer. The order is a matter of their
// numbers alone, so it is the same on all ranks that run the two, and so is the order in which their messages begin.
inline void RunPair(Phases forward, Phases backward) {
  bool forward_left = true, backward_left = true;
  while (forward_left || backward_left) {
    if (backward_left) backward_left = backward.Next();
    if (forward_left) forward_left = forward.Next();
  }
}

}  // namespace jevons

#endif  // JEVONS_PARALLEL_PIPELINE_PHASES_H_

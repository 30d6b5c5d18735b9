#include "parallel/zero/background_reduction.h"

#include <chrono>
#include <utility>

#include "parallel/zero/exchange.h"

namespace jevons {
namespace {

double Now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

}  // namespace

BackgroundReduction::BackgroundReduction(const Stream& stream, int most_ranks)
    : own_(stream.device, stream.backend()),
      ready_(stream.device),
      done_(stream.device),
      scratch_("reduction", ExchangeScratchBytes(stream, most_ranks), stream.device) {}

void BackgroundReduction::Begin(const Stream& stream, std::vector<Part> parts) {
  std::erase_if(parts, [](const Part& part) { return part.group->size() == 1 || part.sums.empty(); });
  const double now = Now();
  Span& span = running_.emplace_back(Span{now, now});
  if (parts.empty()) return;
  if (stream.device == Device::kCpu) return worker_.Give([this, &span, parts = std::move(parts)] { Run(parts, span); });
  ready_.Record(stream);
  ready_.Wait(own_.get());
  Run(parts, span);
}

void BackgroundReduction::Run(const std::vector<Part>& parts, Span& span) {
  span.begin = Now();
  for (const Part& part : parts) ReduceScatterOwned(*part.group, part.sums, {.stream = own_.get(), .scratch = &scratch_});
  span.end = Now();
}

void BackgroundReduction::Finish(const Stream& stream) {
  worker_.Wait();
  done_.Record(own_.get());
  done_.Wait(stream);
  spans_ = std::exchange(running_, {});
}

}  // namespace jevons

#include "data/prepare/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "absl/strings/str_format.h"
#include "kernels/base/log.h"

namespace jevons {
namespace {

constexpr auto kBarInterval = std::chrono::milliseconds(200);
constexpr auto kLineInterval = std::chrono::seconds(5);
constexpr int kBarWidth = 30;

}  // namespace

Progress::Progress(std::string label, std::string unit, int64_t total)
    : label_(std::move(label)),
      unit_(std::move(unit)),
      total_(std::max<int64_t>(total, 1)),
      terminal_(isatty(STDERR_FILENO) == 1),
      shown_(start_) {}

Progress::~Progress() {
  if (drawn_) std::fputs("\r\x1B[K", stderr);  // the cursor to the front; clear the line
}

void Progress::Update(int64_t done) {
  const Clock::time_point now = Clock::now();
  if (now - shown_ < (terminal_ ? Clock::duration(kBarInterval) : Clock::duration(kLineInterval))) return;
  shown_ = now;
  if (!terminal_) return LogInfo(Describe(done));
  const int filled = static_cast<int>(kBarWidth * std::min(done, total_) / total_);
  const std::string bar = std::string(filled, '#') + std::string(kBarWidth - filled, '.');
  std::fprintf(stderr, "\r[%s] %s\x1B[K", bar.c_str(), Describe(done).c_str());
  std::fflush(stderr);
  drawn_ = true;
}

std::string Progress::Describe(int64_t done) const {
  const double seconds = std::chrono::duration<double>(Clock::now() - start_).count();
  const double rate = static_cast<double>(done) / std::max(seconds, 1e-3);
  const double left = static_cast<double>(std::max<int64_t>(total_ - done, 0)) / std::max(rate, 1.0);
  return absl::StrFormat("%s: %d%% of %d %s, %.0f a second, %.0f s left", label_, 100 * std::min(done, total_) / total_, total_,
                         unit_, rate, left);
}

}  // namespace jevons

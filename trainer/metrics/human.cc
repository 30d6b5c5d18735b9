#include "trainer/metrics/human.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>

#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace jevons {

std::string ShortNumber(double value) {
  constexpr const char* kPrefixes[] = {"", "K", "M", "B", "T"};
  if (std::abs(value) >= 999.5e12) return absl::StrFormat("%.3g", value);
  size_t prefix = 0;
  for (; std::abs(value) >= 999.5 && prefix + 1 < std::size(kPrefixes); ++prefix) value /= 1000;
  return absl::StrFormat("%.3g%s", value, kPrefixes[prefix]);
}

std::string EscapedMarkup(const std::string& text) {
  return absl::StrReplaceAll(text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}});
}

std::string ShortDuration(double seconds) {
  const auto s = static_cast<int64_t>(std::min(seconds, 1e12));
  if (s < 60) return absl::StrFormat("%ds", s);
  if (s < 3600) return absl::StrFormat("%dm%02ds", s / 60, s % 60);
  if (s < 86400) return absl::StrFormat("%dh%02dm", s / 3600, s % 3600 / 60);
  if (s < 86400 * 1000) return absl::StrFormat("%dd%02dh", s / 86400, s % 86400 / 3600);
  return absl::StrFormat("%dd", s / 86400);
}

}  // namespace jevons

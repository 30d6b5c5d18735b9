#include "kernels/base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <memory>
#include <string>

namespace jevons {
namespace {

spdlog::logger& Logger() {
  static const std::shared_ptr<spdlog::logger> logger = [] {
    const bool color = std::getenv("NO_COLOR") == nullptr;
    auto sink =
        std::make_shared<spdlog::sinks::stderr_color_sink_mt>(color ? spdlog::color_mode::automatic : spdlog::color_mode::never);
    auto made = std::make_shared<spdlog::logger>("jevons", sink);
    made->set_pattern("%H:%M:%S %^%L%$ %v");
    made->flush_on(spdlog::level::info);
    return made;
  }();
  return *logger;
}

spdlog::string_view_t View(absl::string_view text) { return {text.data(), text.size()}; }

}  // namespace

void LogInfo(absl::string_view message) { Logger().log(spdlog::level::info, View(message)); }
void LogWarning(absl::string_view message) { Logger().log(spdlog::level::warn, View(message)); }
void LogError(absl::string_view message) { Logger().log(spdlog::level::err, View(message)); }

void SetLogRank(int rank, int world_size) {
  if (world_size > 1 && rank > 0) {
    Logger().set_level(spdlog::level::warn);
    Logger().set_pattern("%H:%M:%S %^%L%$ [rank " + std::to_string(rank) + "] %v");
  }
}

}  // namespace jevons

#include "trainer/metrics/cost.h"

#include "absl/strings/str_format.h"

namespace jevons {

void Charge(CostLedger& ledger, const DeviceTime& time) {
  const double device_seconds = time.seconds * time.devices;
  ledger.set_device_seconds(ledger.device_seconds() + device_seconds);
  ledger.set_dollars(ledger.dollars() + device_seconds / 3600 * time.price_per_device_hour);
  ledger.set_seconds(ledger.seconds() + time.seconds);
}

void AddRestart(CostLedger& ledger, const LostWork& lost) {
  ledger.set_restarts(ledger.restarts() + 1);
  ledger.set_seconds(ledger.seconds() + lost.seconds);
  ledger.set_device_seconds(ledger.device_seconds() + lost.device_seconds);
  ledger.set_dollars(ledger.dollars() + lost.dollars);
  ledger.set_wasted_device_seconds(ledger.wasted_device_seconds() + lost.device_seconds);
  ledger.set_wasted_dollars(ledger.wasted_dollars() + lost.dollars);
}

void AddSkipped(CostLedger& ledger, int64_t tokens, double device_seconds, double dollars) {
  ledger.set_skipped_steps(ledger.skipped_steps() + 1);
  ledger.set_skipped_tokens(ledger.skipped_tokens() + tokens);
  ledger.set_wasted_device_seconds(ledger.wasted_device_seconds() + device_seconds);
  ledger.set_wasted_dollars(ledger.wasted_dollars() + dollars);
}

double DollarsPerMillionTokens(const CostLedger& ledger) {
  return ledger.tokens() == 0 ? 0 : ledger.dollars() / static_cast<double>(ledger.tokens()) * 1e6;
}

double HoursPerTrillionTokens(double device_seconds, double tokens) {
  return tokens > 0 ? device_seconds / 3600 / tokens * 1e12 : 0;
}

std::string CostSummary(const CostLedger& ledger, const std::string& device, bool priced) {
  const double lost = ledger.device_seconds() > 0 ? ledger.wasted_device_seconds() / ledger.device_seconds() : 0;
  const std::string money =
      priced ? absl::StrFormat("$%.4g, $%.4g per million tokens", ledger.dollars(), DollarsPerMillionTokens(ledger))
             : "price not set (cost.price_per_device_hour)";
  const std::string lost_money = priced && lost > 0 ? absl::StrFormat(", $%.4g", ledger.wasted_dollars()) : "";
  const int64_t steps = ledger.skipped_steps();
  const std::string skipped =
      steps > 0 ? absl::StrFormat(", %d step%s of %d tokens skipped", steps, steps == 1 ? "" : "s", ledger.skipped_tokens()) : "";
  return absl::StrFormat("%d tokens, %.4g %s hours (%.1f%% of them lost%s, %d restart%s%s), %s", ledger.tokens(),
                         ledger.device_seconds() / 3600, device, 100 * lost, lost_money, ledger.restarts(),
                         ledger.restarts() == 1 ? "" : "s", skipped, money);
}

}  // namespace jevons

// The cost ledger: every device-second that a run has taken, whether its work was kept or thrown away.
//
//   Charge(ledger, {.seconds = 20, .devices = 2048, .price_per_device_hour = 2});   // any time that passes
//   ledger.set_tokens(ledger.tokens() + tokens_of_the_step);
//   // on resume, with the ledger of the checkpoint and what the dead run had reached beyond it:
//   AddRestart(ledger, {.seconds = ..., .device_seconds = ..., .dollars = ...});
#ifndef JEVONS_TRAINER_METRICS_COST_H_
#define JEVONS_TRAINER_METRICS_COST_H_

#include <string>

#include "trainer/metrics/cost.pb.h"

namespace jevons {

struct DeviceTime {
  double seconds = 0;  // of the clock
  double devices = 1;
  double price_per_device_hour = 0;  // dollars; 0 where it is not known
};

void Charge(CostLedger& ledger, const DeviceTime& time);

struct LostWork {
  double seconds = 0, device_seconds = 0, dollars = 0;
};

// A restart that threw away `lost`: the ledger of the checkpoint, from which the run goes on, does not have it yet. Zeros where nothing was
// lost.
void AddRestart(CostLedger& ledger, const LostWork& lost);

// A step of so many tokens that was charged, and not applied.
void AddSkipped(CostLedger& ledger, int64_t tokens, double device_seconds, double dollars);

// Of all that was paid, for the tokens that were kept; 0 before the first token.
double DollarsPerMillionTokens(const CostLedger& ledger);
// Of `device_seconds` that were paid for the training of `tokens`; 0 before the first.
double HoursPerTrillionTokens(double device_seconds, double tokens);

// DeepSeek-V3's pre-training, of which the report says (section 1) 180K H800 hours for each trillion tokens, at $2 an hour (table 1).
inline constexpr double kDeepSeekV3HoursPerTrillion = 180e3, kDeepSeekV3PricePerHour = 2;

// What training takes of one device that runs at `mfu` of its peak, whatever it really took.
struct ReferenceSpeed {
  double mfu = 0;         // 0: none is stated
  double peak_flops = 0;  // of one device, FLOP/s
  // flops: of training, MTP modules included (trainer/spec/run_flops.h): they are paid for.
  double device_seconds(double flops) const { return mfu > 0 ? flops / (mfu * peak_flops) : 0; }
};

// "1228800 tokens, 0.21 CPU core hours (3.1% of them lost, $0.013, 1 restart, 2 steps of 8192 tokens skipped), $0.42, $0.34 per million
// tokens"; without the steps where none was, and "price not set" in place of the dollars unless `priced`.
std::string CostSummary(const CostLedger& ledger, const std::string& device, bool priced);

}  // namespace jevons

#endif  // JEVONS_TRAINER_METRICS_COST_H_

// The cost ledger: every device-second that a run has taken, whether its work was kept or thrown away.
//
//   Charge(ledger, {.seconds = 20, .devices = 2048, .price_per_device_hour = 2});   // any time that passes
//   ledger.set_tokens(ledger.tokens() + tokens_of_the_step);
//   // on resume, with the ledger of the checkpoint and what the dead run had reached beyond it:
//   AddRestart(ledger, lost_device_seconds, lost_dollars);
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

// A restart that threw away `device_seconds` of work, paid with `dollars`: the ledger of the checkpoint, from
// which the run goes on, does not have them yet. Zeros where nothing was lost.
void AddRestart(CostLedger& ledger, double device_seconds, double dollars);

// A step of so many tokens that was charged, and not applied.
void AddSkipped(CostLedger& ledger, int64_t tokens, double device_seconds, double dollars);

// Of all that was paid, for the tokens that were kept; 0 before the first token.
double DollarsPerMillionTokens(const CostLedger& ledger);

// "1228800 tokens, 0.21 CPU core hours (3.1% of them lost, 1 restart, 2 steps of 8192 tokens skipped), $0.42, $0.34 per million tokens"; without
// the steps where none was; "price not set" in place of the
// dollars unless `priced`.
std::string CostSummary(const CostLedger& ledger, const std::string& device, bool priced);

}  // namespace jevons

#endif  // JEVONS_TRAINER_METRICS_COST_H_

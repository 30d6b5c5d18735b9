// The parts of a page that say what was trained, how it went, and what it took.
#include "trainer/report/sections.h"

#include <algorithm>
#include <ctime>
#include <map>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "trainer/metrics/human.h"
#include "trainer/report/chart.h"
#include "trainer/spec/flops.h"

namespace jevons {
namespace {

using Row = std::vector<std::string>;

std::string UtcText(double time) {
  const auto seconds = static_cast<time_t>(time);
  tm utc{};
  gmtime_r(&seconds, &utc);
  char text[32];
  strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &utc);
  return text;
}

std::string Dollars(std::optional<double> value) { return value ? absl::StrFormat("$%.4g", *value) : "not known"; }

// Names and what they are, without a head; names of nothing are left out.
std::string FactTable(std::vector<Row> rows) {
  std::erase_if(rows, [](const Row& row) { return row[1].empty(); });
  rows.insert(rows.begin(), Row());
  return HtmlTable(rows, 2);
}

double MeanOf(const Curve& curve) {
  double sum = 0;
  for (const double value : curve.y) sum += value;
  return curve.empty() ? 0 : sum / static_cast<double>(curve.y.size());
}

// List prices of an H100's hour in autumn 2026: they differ 5.8 times.
constexpr std::pair<double, const char*> kOffers[] = {
    {2.11, "SFCompute, average"}, {2.69, "RunPod"}, {3.85, "Nebius"}, {6.88, "AWS"}, {12.29, "Azure"}};

// Prices of a device's hour that dollars are told at, and whose they are.
std::vector<std::pair<double, std::string>> PricesOf(const RunHistory& run) {
  std::map<double, std::string> prices;
  for (const RunStart& start : run.starts)
    if (start.price_per_device_hour) prices.emplace(*start.price_per_device_hour, "the run's");
  if (run.config.parallel().backend() == CUDA) {
    prices.emplace(kDeepSeekV3PricePerHour, "DeepSeek-V3's report, of an H800");
    for (const auto& [price, whose] : kOffers) prices.emplace(price, absl::StrCat(whose, ", of an H100"));
  }
  return {prices.begin(), prices.end()};
}

std::string PriceTable(const RunHistory& run) {
  std::vector<Row> rows = {{"price of an hour", "whose", "this run", "a million tokens"}};
  const double hours = run.Last("cost/device_seconds").value_or(0) / 3600, tokens = run.Last("tokens").value_or(0);
  for (const auto& [price, whose] : PricesOf(run))
    rows.push_back({absl::StrFormat("$%g", price), whose, absl::StrFormat("$%.4g", hours * price),
                    absl::StrFormat("$%.4g", tokens > 0 ? hours * price / tokens * 1e6 : 0)});
  return rows.size() > 1 ? HtmlTable(rows, 2)
                         : "<p>No price is known: <code>cost.price_per_device_hour</code> was not set.</p>\n";
}

std::string StartsTable(const RunHistory& run) {
  std::vector<Row> rows = {{"started (UTC)", "goes on from step", "ranks", "devices", "host", "steps made again",
                            "device hours lost", "dollars lost"}};
  for (const RunStart& start : run.starts)
    rows.push_back({UtcText(start.time), absl::StrCat(start.step), absl::StrCat(start.ranks),
                    absl::StrFormat("%g x %s", start.devices, start.device), start.host, absl::StrCat(start.lost_steps),
                    absl::StrFormat("%.3g", start.lost.device_seconds / 3600), absl::StrFormat("%.3g", start.lost.dollars)});
  return rows.size() > 1 ? HtmlTable(rows, 5) : "";
}

// "from step 100: 8 sequences of 512 tokens, 5.7M FLOP a token"; empty without.
std::string StagesOf(const RunHistory& run) {
  const RunSchedule schedule(run.config);
  std::string text;
  for (const int64_t step : schedule.StageSteps()) {
    if (step == 0) continue;
    const RunConfig& stage = schedule.stage(schedule.StageOf(step));
    absl::StrAppendFormat(&text, "%sfrom step %d: %d sequences of %d tokens, %s FLOP a token", text.empty() ? "" : "; ", step + 1,
                          stage.train().batch_sequences(), stage.data().sequence_length(),
                          ShortNumber(CountFlops(stage.model(), stage.data().sequence_length(), CoreCount::kCausal).training()));
  }
  return text;
}

}  // namespace

std::string HtmlTable(const std::vector<Row>& rows, size_t numbers_from) {
  std::string html = "<div class=\"scroll\"><table>\n";
  for (size_t r = 0; r < rows.size(); ++r) {
    if (rows[r].empty()) continue;
    html += "<tr>";
    for (size_t c = 0; c < rows[r].size(); ++c)
      absl::StrAppendFormat(&html, "<%s%s>%s</%s>", r == 0 ? "th" : "td", c >= numbers_from ? " class=\"n\"" : "",
                            EscapedMarkup(rows[r][c]), r == 0 ? "th" : "td");
    html += "</tr>\n";
  }
  return html + "</table></div>\n";
}

std::string ShareTable(const std::vector<Share>& shares) {
  double all = 0, most = 0;
  for (const Share& share : shares) {
    all += share.amount;
    most = std::max(most, share.amount);
  }
  std::string html = "<div class=\"scroll\"><table>\n";
  for (const Share& share : shares) {
    if (share.amount <= 0) continue;
    absl::StrAppendFormat(&html,
                          "<tr><td>%s</td><td class=\"n\">%s</td><td class=\"n\">%.1f%%</td><td class=\"b\"><span class=\"bar\" "
                          "style=\"width:%.1f%%\"></span></td></tr>\n",
                          EscapedMarkup(share.name), EscapedMarkup(share.text), 100 * share.amount / all,
                          100 * share.amount / most);
  }
  return html + "</table></div>\n";
}

std::string TilesHtml(const RunHistory& run) {
  std::string html = "<div class=\"tiles\">\n";
  const auto tile = [&](const std::string& value, const std::string& what) {
    absl::StrAppendFormat(&html, "<div class=\"tile\"><b>%s</b><span>%s</span></div>\n", EscapedMarkup(value),
                          EscapedMarkup(what));
  };
  const auto tokens = run.Last("tokens"), dollars = run.Last("cost/dollars"), seconds = run.Last("cost/device_seconds");
  const Curve loss = TrainingLoss(run, Axis::kTokens, {}), validation = ValidationLoss(run, Axis::kTokens, {});
  if (!loss.empty()) tile(absl::StrFormat("%.4f", loss.y.back()), "training loss, smoothed, nats per token");
  if (!validation.empty()) tile(absl::StrFormat("%.4f", validation.y.back()), "validation loss, nats per token");
  if (!run.validations.empty())
    if (const auto bits = run.validations.back().Value("validation/bits_per_byte"))
      tile(absl::StrFormat("%.3f", *bits), "bits per byte");
  tile(absl::StrCat(run.steps.back().step), "steps");
  if (tokens) tile(ShortNumber(*tokens), "tokens");
  tile(ShortNumber(MeanOf(run.OverTokens("tokens_per_second"))), "tokens/s, mean of steps");
  tile(absl::StrFormat("%.1f%%", 100 * MeanOf(run.OverTokens("mfu"))), "MFU, causal, without MTP");
  if (seconds) tile(absl::StrFormat("%.3g h", *seconds / 3600), run.device() + " hours paid for");
  if (dollars) tile(absl::StrFormat("$%.4g", *dollars), "paid");
  return html + "</div>\n";
}

std::string WhatHtml(const RunHistory& run, const RunFacts& facts) {
  const RunConfig& c = run.config;
  const std::string ends[] = {c.train().has_steps() ? absl::StrCat(c.train().steps(), " steps") : "",
                              c.train().tokens() > 0 ? ShortNumber(c.train().tokens()) + " tokens" : "",
                              c.train().dollars() > 0 ? absl::StrFormat("$%g", c.train().dollars()) : ""};
  std::string end;
  for (const std::string& text : ends)
    if (!text.empty()) absl::StrAppend(&end, end.empty() ? "" : ", or ", text);
  std::vector<Row> rows = {
      {"run", run.path},
      {"tags", c.run().tags()},
      {"model", facts.model},
      {"training FLOP",
       absl::StrFormat("%s a token, causal%s", ShortNumber(run.flops_per_token),
                       run.mtp_flops_per_token > 0 ? absl::StrFormat("; %.1f%% of them in MTP modules",
                                                                     100 * run.mtp_flops_per_token / run.flops_per_token)
                                                   : std::string())},
      {"data", c.data().path()},
      {"batch", absl::StrFormat("%d sequences of %d tokens", c.train().batch_sequences(), c.data().sequence_length())},
      {"later stages", StagesOf(run)},
      {"ends with", end},
      {"layout",
       absl::StrFormat("ep %d, pp %d, %s", c.parallel().ep(), c.parallel().pp(), BackendType_Name(c.parallel().backend()))},
      {"precision", absl::StrCat(ComputeType_Name(c.precision().compute()),
                                 c.precision().gemm() == FP8_BLOCK ? ", products in FP8 blocks" : "")}};
  if (!run.starts.empty()) {
    const RunStart& start = run.starts.back();
    rows.push_back({"machine", absl::StrFormat("%s: %d ranks, %g x %s", start.host, start.ranks, start.devices, start.device)});
    rows.push_back({"peak", absl::StrFormat("%s FLOP/s, %s", ShortNumber(start.peak_flops),
                                            start.peak_source.empty() ? "as cost.peak_tflops says" : start.peak_source)});
    for (const auto& [name, value] : start.labels) rows.push_back({name, value});
  }
  for (const auto& [name, hash] : facts.hashes) rows.push_back({name, hash});
  return FactTable(std::move(rows));
}

std::string CurvesHtml(const RunHistory& run) {
  std::string html = "<div class=\"grid2\">\n";
  const auto chart = [&](const std::string& title, std::vector<Series> series, bool log_y, bool zero) {
    absl::StrAppend(
        &html, LineChart{.title = title, .x_label = "tokens", .series = std::move(series), .log_y = log_y, .zero = zero}.Html());
  };
  chart("Loss, nats per token",
        {{.name = "each step", .curve = run.OverTokens("loss/main"), .color = 0, .faint = true},
         {.name = "smoothed", .curve = TrainingLoss(run, Axis::kTokens, {}), .color = 0},
         {.name = "validation", .curve = ValidationLoss(run, Axis::kTokens, {}), .color = 1, .points = true}},
        true, false);
  chart("Gradient norm", {{.name = "", .curve = run.OverTokens("gradient_norm"), .color = 2}}, true, false);
  chart("Learning rate", {{.name = "", .curve = run.OverTokens("learning_rate"), .color = 3}}, false, true);
  chart("Tokens per second", {{.name = "", .curve = run.OverTokens("tokens_per_second"), .color = 0}}, false, true);
  Curve mfu = run.OverTokens("mfu");
  for (double& value : mfu.y) value *= 100;
  chart("MFU, %", {{.name = "", .curve = mfu, .color = 4}}, false, true);
  if (run.Last("loss/mtp").value_or(0) > 0)
    chart("MTP loss, nats per token", {{.name = "", .curve = run.OverTokens("loss/mtp"), .color = 5}}, true, false);
  return html + "</div>\n";
}

std::string TimeHtml(const RunHistory& run) {
  constexpr absl::string_view kPrefix = "seconds/";
  std::vector<Share> shares;
  for (const auto* records : {&run.steps, &run.validations}) {
    for (const MetricsRecord& record : *records) {
      for (const auto& [name, value] : record.values) {
        if (!absl::StartsWith(name, kPrefix)) continue;
        const std::string phase(absl::StripPrefix(name, kPrefix));
        auto share = std::find_if(shares.begin(), shares.end(), [&](const Share& known) { return known.name == phase; });
        if (share == shares.end()) share = shares.insert(shares.end(), {.name = phase, .text = "", .amount = 0});
        share->amount += value;
      }
    }
  }
  if (shares.empty()) return "<p>The metrics do not say where time went.</p>\n";
  std::stable_sort(shares.begin(), shares.end(), [](const Share& a, const Share& b) { return a.amount > b.amount; });
  for (Share& share : shares)
    share.text = share.amount < 600 ? absl::StrFormat("%.3g s", share.amount) : ShortDuration(share.amount);
  return "<p>Of the first rank, over all steps that were kept; forward and backward have attention, FFNs and experts, head the "
         "vocabulary's products.</p>\n" +
         ShareTable(shares);
}

std::string CostHtml(const RunHistory& run, const RunFacts& facts) {
  const auto seconds = run.Last("cost/device_seconds"), lost = run.Last("cost/lost_device_seconds"), tokens = run.Last("tokens");
  if (!seconds || !tokens) return "<p>The metrics do not say what was paid for.</p>\n";
  const std::string device = run.device();
  std::vector<Row> rows = {
      {"", "this run", "DeepSeek-V3"},
      {device + " hours, all", absl::StrFormat("%.4g", *seconds / 3600), "2664K of an H800, pre-training"},
      {"of them lost with their steps",
       absl::StrFormat("%.4g (%.1f%%)", lost.value_or(0) / 3600, *seconds > 0 ? 100 * lost.value_or(0) / *seconds : 0), ""},
      {device + " hours per 1e12 tokens", ShortNumber(HoursPerTrillionTokens(*seconds, *tokens)),
       ShortNumber(kDeepSeekV3HoursPerTrillion)},
      {"dollars", Dollars(run.Last("cost/dollars")), ""},
      {"dollars per million tokens", Dollars(run.Last("cost/dollars_per_million_tokens")),
       absl::StrFormat("$%.3g at $%g an hour", kDeepSeekV3HoursPerTrillion * kDeepSeekV3PricePerHour / 1e6,
                       kDeepSeekV3PricePerHour)},
      {"MFU, mean of steps", absl::StrFormat("%.1f%% (causal, without MTP modules)", 100 * MeanOf(run.OverTokens("mfu"))), ""}};
  if (run.reference.mfu > 0)
    rows.push_back({absl::StrFormat("%s hours at an MFU of %g%%", device, 100 * run.reference.mfu),
                    absl::StrFormat("%.4g, MTP modules included; dollars: %s",
                                    run.reference.device_seconds(run.flops->Training(*tokens)) / 3600,
                                    Dollars(PlaceOf(run, run.steps.back(), Axis::kReference, {}))),
                    ""});
  std::string html = HtmlTable(rows, 3) + "<h4>At several prices</h4>\n" + PriceTable(run) +
                     "<h4>Starts and what they lost</h4>\n" + StartsTable(run);
  if (facts.events.empty()) return html + "<p>No supervisor kept a journal of failures.</p>\n";
  html += "<h4>Journal of the supervisor</h4>\n<pre>";
  for (const std::string& event : facts.events) absl::StrAppend(&html, EscapedMarkup(event), "\n");
  return html + "</pre>\n";
}

}  // namespace jevons

#include "trainer/plan/published.h"

#include <algorithm>
#include <filesystem>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "configs/cluster.h"
#include "configs/nearest.h"
#include "configs/parse_errors.h"
#include "configs/published.pb.h"
#include "configs/text_file.h"
#include "kernels/base/status.h"

namespace jevons {
namespace {

std::string Plain(const std::string& name) {
  std::string plain;
  for (const char c : name)
    if (absl::ascii_isalnum(c)) plain += absl::ascii_tolower(c);
  return plain;
}

// Letter case does not count; `word` is in lower case.
bool Says(const std::string& text, absl::string_view word) { return absl::StrContains(absl::AsciiStrToLower(text), word); }

// The number before " SMs" in the notes: what communication is lent; 0 where they do not say.
int64_t CommunicationSms(const std::string& notes) {
  const size_t end = notes.find(" SMs");
  if (end == std::string::npos || end == 0) return 0;
  const size_t begin = notes.find_last_not_of("0123456789", end - 1) + 1;
  int64_t sms = 0;
  return absl::SimpleAtoi(notes.substr(begin, end - begin), &sms) ? sms : 0;
}

ModelShape ShapeOf(const PublishedModel& m) {
  const bool latent = m.kv_heads() == 0;
  const int64_t rope = m.rope_dim(), qk = m.head_dim() + rope, query = m.heads() * qk;
  ModelShape s{.name = m.name(0),
               .unpriced = m.unpriced(),
               .hidden = m.hidden(),
               .vocab = m.vocab(),
               .layers = m.layers(),
               .dense_layers = m.dense_layers(),
               .mtp_modules = m.mtp_modules(),
               .attention = {},
               .heads = m.heads(),
               .qk_dim = qk,
               .v_dim = m.head_dim(),
               .query_width = query,
               .kv_width = latent ? 2 * m.heads() * m.head_dim() + rope : 2 * m.kv_heads() * m.head_dim(),
               .latent_width = latent ? m.query_rank() + m.kv_rank() + rope : 0,
               .dense_width = m.dense_width(),
               .experts = m.experts(),
               .top_k = m.top_k(),
               .groups = m.groups(),
               .kept_groups = m.kept_groups(),
               .expert_width = m.expert_width(),
               .shared_width = m.shared_width()};
  if (!latent) {
    s.attention = {{.n = query + s.kv_width, .k = m.hidden()}};
  } else {
    if (m.query_rank() > 0) s.attention.push_back({.n = m.query_rank(), .k = m.hidden()});
    s.attention.push_back(
        {.n = query, .k = m.query_rank() > 0 ? m.query_rank() : m.hidden(), .up_projection = m.query_rank() > 0});
    s.attention.push_back({.n = m.kv_rank() + rope, .k = m.hidden()});
    s.attention.push_back({.n = 2 * m.heads() * m.head_dim(), .k = m.kv_rank(), .up_projection = true});
  }
  s.attention.push_back({.n = m.hidden(), .k = m.heads() * m.head_dim()});
  return s;
}

Precision PrecisionOf(const std::string& text) {
  if (!Says(text, "fp8")) return Precision::kBf16;
  return Says(text, "tensor") || Says(text, "cs") ? Precision::kFp8Tensor : Precision::kFp8Block;
}

// Degrees that nobody can guess: speed and memory of one model differ by factors between layouts. On one GPU all are 1.
absl::Status CheckStated(const PublishedRun& run, const ModelShape& model) {
  std::vector<std::string> missing;
  if (!run.tp) missing.push_back("tp");
  if (!run.pp) missing.push_back("pp");
  if (model.moe() && !run.ep) missing.push_back("ep");
  if (run.gpus == 1 || missing.empty()) return absl::OkStatus();
  return UsageError(absl::StrFormat("layout not stated (%s), and none is guessed", absl::StrJoin(missing, ", ")));
}

// What the row says or leaves open, by the same rules for every row.
Layout LayoutOf(const PublishedRun& run, const ModelShape& model, std::string& assumed) {
  Layout l{
      .gpus = run.gpus, .pp = run.pp.value_or(1), .ep = run.ep.value_or(1), .tp = run.tp.value_or(1), .cp = run.cp.value_or(1)};
  const auto suppose = [&](const std::string& what) { absl::StrAppend(&assumed, assumed.empty() ? "" : ", ", what); };
  l.micro_batch = run.mbs.value_or(1);
  if (!run.mbs) suppose("micro-batch 1");
  l.sequence = run.seq.value_or(4096);
  if (!run.seq) suppose("length 4096");
  if (l.cp > 1) suppose("cp's exchange free");
  l.precision = PrecisionOf(run.precision);
  l.bf16_moments = false;
  const bool dual = Says(run.notes, "dualpipe");
  l.schedule = dual ? (Says(run.notes, "dualpipev") ? ScheduleKind::kDualPipeV : ScheduleKind::kDualPipe) : ScheduleKind::k1F1B;
  if (run.vpp.value_or(1) > 1 && l.pp > 1) l.schedule = ScheduleKind::kInterleaved, l.virtual_stages = *run.vpp;
  const int64_t most = (model.layers + model.mtp_modules) / l.pp;
  if (l.virtual_stages > most)
    l.virtual_stages = std::max<int64_t>(most, 1), suppose(absl::StrFormat("vpp %d", l.virtual_stages));
  if (l.virtual_stages == 1 && l.schedule == ScheduleKind::kInterleaved) l.schedule = ScheduleKind::k1F1B;
  l.overlap = dual;
  l.overlap_all = !dual && l.ep > 1 && Says(run.notes, "overlap") && !Says(run.notes, "no overlap");
  l.dispatch = Says(run.notes, "plain") ? Dispatch::kFlat : Dispatch::kForwarding;
  const int64_t dp = std::max<int64_t>(l.dp(), 1), unit = dp * l.micro_batch;
  int64_t micro_batches = std::max<int64_t>(1, (run.gbs.value_or(4 * l.pp * unit) + unit / 2) / unit);
  if (!run.gbs) suppose(absl::StrFormat("%d micro-batches", micro_batches));
  if (l.schedule == ScheduleKind::kInterleaved && micro_batches % l.pp != 0) {
    micro_batches = (micro_batches + l.pp - 1) / l.pp * l.pp;
    suppose(absl::StrFormat("%d micro-batches", micro_batches));
  }
  l.batch = micro_batches * unit;
  return l;
}

// The least recomputation that fits; before whole blocks run again, gradients are summed in BF16.
absl::StatusOr<Plan> LeastRecomputation(Layout layout, const ModelShape& model, const ClusterConfig& cluster,
                                        const Constants& constants, bool stated) {
  absl::StatusOr<Plan> plan = absl::UnknownError("");
  const auto fits = [&](Recompute recompute, double gradient_bytes) {
    layout.recompute = recompute;
    layout.gradient_bytes = gradient_bytes;
    plan = MakePlan(model, layout, cluster, constants);
    return !plan.ok() || plan->fits() || stated;
  };
  for (const double gradient_bytes : {4, 2})
    for (const Recompute recompute : {Recompute::kNone, Recompute::kElementwise, Recompute::kSelective})
      if (fits(recompute, gradient_bytes)) return plan;
  if (!fits(Recompute::kFull, 4)) fits(Recompute::kFull, 2);
  return plan;
}

}  // namespace

absl::StatusOr<PublishedWorld> PublishedWorld::Load(const std::string& configs) {
  namespace fs = std::filesystem;
  PublishedWorld world;
  const std::string path = configs + "/published/models.textproto";
  JEVONS_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path, "the published models' shapes"));
  PublishedModels models;
  JEVONS_RETURN_IF_ERROR(ParseText(text, path, models));
  for (const PublishedModel& model : models.model())
    for (const std::string& name : model.name()) world.models_.emplace_back(Plain(name), ShapeOf(model));
  std::vector<std::string> files;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(configs + "/clusters", error))
    if (entry.path().extension() == ".textproto") files.push_back(entry.path());
  if (error) return UsageError(absl::StrFormat("%s/clusters: %s", configs, error.message()));
  std::sort(files.begin(), files.end());
  for (const std::string& file : files) {
    JEVONS_ASSIGN_OR_RETURN(ClusterConfig cluster, LoadCluster(file));
    world.clusters_.push_back(std::move(cluster));
  }
  return world;
}

absl::StatusOr<ModelShape> PublishedWorld::Model(const std::string& name) const {
  std::vector<std::string> known;
  for (const auto& [plain, shape] : models_) {
    if (plain == Plain(name)) {
      if (shape.layers == 0)
        return UsageError(
            absl::StrFormat("model %s: its layers are of kinds that are not priced: %s", shape.name, shape.unpriced));
      return shape;
    }
    known.push_back(shape.name);
  }
  known.erase(std::unique(known.begin(), known.end()), known.end());
  return UsageError(absl::StrFormat("model %s: no shape in configs/published/models.textproto; %s", name,
                                    DidYouMean(NearestName(name, known), known)));
}

absl::StatusOr<ClusterConfig> PublishedWorld::Cluster(const std::string& hardware, int64_t gpus) const {
  const bool any = Plain(hardware) == "any";
  std::vector<std::string> known;
  for (ClusterConfig cluster : clusters_) {
    known.push_back(cluster.name());
    if (Plain(cluster.name()) != (any ? "h100" : Plain(hardware))) continue;
    cluster.set_gpus(gpus);
    if (any) cluster.mutable_gpu()->set_hbm_gib(1e5);
    return cluster;
  }
  return UsageError(absl::StrFormat("hardware %s: no table in configs/clusters; %s", hardware,
                                    DidYouMean(NearestName(hardware, known), known)));
}

Prediction Predict(const PublishedRun& run, const PublishedWorld& world, const Constants& constants) {
  Prediction p{.run = run, .status = {}, .plan = {}, .assumed = {}, .speed_error = {}, .memory_error = {}};
  absl::StatusOr<ModelShape> model = world.Model(run.model);
  absl::StatusOr<ClusterConfig> cluster = world.Cluster(run.hardware, run.gpus);
  if (!model.ok() || !cluster.ok()) return p.status = model.ok() ? cluster.status() : model.status(), p;
  if (const absl::Status stated = CheckStated(run, *model); !stated.ok()) return p.status = stated, p;
  if (Says(run.notes, "no mtp")) model->mtp_modules = 0;
  if (!model->unpriced.empty()) p.assumed = "without " + model->unpriced;
  const int64_t sms = CommunicationSms(run.notes);
  if (sms > 0 && sms < cluster->gpu().sms()) cluster->mutable_gpu()->set_communication_sms(sms);
  Constants used = constants;
  if (Says(run.notes, "balanced")) used.expert_imbalance = 1;
  Layout layout = LayoutOf(run, *model, p.assumed);
  const bool unsaved = Says(run.notes, "before savings");
  absl::StatusOr<Plan> plan = LeastRecomputation(layout, *model, *cluster, used, unsaved);
  if (!plan.ok()) return p.status = plan.status(), p;
  if (run.tokens_per_s) p.speed_error = plan->tokens_per_second_per_gpu() / *run.tokens_per_s - 1;
  if (!run.tokens_per_s && run.tflops) p.speed_error = plan->tflops(true) / *run.tflops - 1;
  if (run.mem_gb) p.memory_error = plan->mean_memory() / 1e9 / *run.mem_gb - 1;
  p.plan = *std::move(plan);
  return p;
}

}  // namespace jevons

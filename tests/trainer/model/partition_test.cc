// How a model is cut into stages, and who holds what.
#include "trainer/model/partition.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "tests/support/tiny_model.h"
#include "trainer/step/train_step.h"

namespace jevons {
namespace {

using ::testing::HasSubstr;

ModelConfig Model(int64_t layers, int64_t depth) {
  ModelConfig model = TinyModel();
  model.set_layers(layers);
  model.mutable_mtp()->set_depth(depth);
  return model;
}

std::vector<int64_t> LayersOf(const absl::StatusOr<std::vector<StagePart>>& parts) {
  EXPECT_TRUE(parts.ok()) << parts.status();
  std::vector<int64_t> layers;
  int64_t next = 0;
  for (const StagePart& part : parts.value()) {
    EXPECT_EQ(part.layers.begin, next);
    next = part.layers.end;
    layers.push_back(part.layers.size());
  }
  EXPECT_TRUE(parts->front().first && parts->back().last);
  return layers;
}

TEST(StageCut, IsWhatTheTextSays) {
  const auto cut = [](int64_t layers, int64_t depth, int stages, const char* text) {
    return LayersOf(CutIntoStages(Model(layers, depth), stages, text));
  };
  EXPECT_EQ(cut(6, 1, 3, "E1|2|3MH"), (std::vector<int64_t>{1, 2, 3}));
  EXPECT_EQ(cut(61, 1, 16, "E5|4*14|MH"), [] {
    std::vector<int64_t> layers(16, 4);
    layers.front() = 5;
    layers.back() = 0;
    return layers;
  }());
  EXPECT_EQ(cut(4, 0, 4, "1|0|3|H"), (std::vector<int64_t>{1, 0, 3, 0}));
  EXPECT_EQ(cut(5, 0, 1, "5"), (std::vector<int64_t>{5}));
}

TEST(StageCut, RefusesWhatDoesNotFit) {
  const auto refusal = [](int64_t layers, int64_t depth, int stages, const std::string& text) {
    const absl::Status status = CutIntoStages(Model(layers, depth), stages, text).status();
    EXPECT_EQ(ExitCodeOf(status), ExitCode::kUsage) << text;
    EXPECT_THAT(status.message(), HasSubstr("parallel.stages = \"" + text + "\"")) << text;
    return std::string(status.message());
  };
  EXPECT_THAT(refusal(6, 1, 3, "1|2|4"), HasSubstr("that is 7 layers"));
  EXPECT_THAT(refusal(6, 1, 4, "1|2|3"), HasSubstr("that is 3 stages"));
  EXPECT_THAT(refusal(6, 1, 3, "1|E2|3"), HasSubstr("E belongs to the first stage"));
  EXPECT_THAT(refusal(6, 1, 3, "1H|2|3"), HasSubstr("M and H belong to the last stage"));
  EXPECT_THAT(refusal(6, 0, 3, "1|2|3M"), HasSubstr("model.mtp.depth is 0"));
  for (const char* text : {"|", "x", "1||2", "-1|7", "2*|2", "*2|2", "2*0|6", "1 |2|3", "99999999999999999999|1|1", "2*9999|1",
                           "E1*2|4", "HH", "1.5|2|3"})
    refusal(6, 1, 3, text);
}

// Every stage but the last, which has the head, has a layer if there are as many.
TEST(StageCut, EvenCutHasEveryLayerOnce) {
  for (const int64_t layers : {1, 2, 5, 9, 61}) {
    for (int stages = 1; stages <= 16; ++stages) {
      const std::vector<int64_t> cut = LayersOf(CutIntoStages(Model(layers, 1), stages, ""));
      ASSERT_EQ(static_cast<int>(cut.size()), stages);
      int64_t sum = 0;
      for (const int64_t n : cut) sum += n;
      EXPECT_EQ(sum, layers);
      for (size_t s = 0; s + 1 < cut.size(); ++s)
        EXPECT_GE(cut[s], stages <= layers + 1 ? 1 : 0) << layers << " layers, " << stages << " stages";
    }
  }
}

TEST(Partition, EveryParameterIsSomewhereAndCopiesAreKnown) {
  for (const ScheduleType schedule : {GPIPE, ONE_F_ONE_B, INTERLEAVED, ZB_H1, DUALPIPE, DUALPIPEV}) {
    for (const int64_t depth : {0, 1, 2}) {
      RunConfig config;
      *config.mutable_model() = Model(9, depth);
      config.mutable_parallel()->set_pp(4);
      config.mutable_parallel()->set_schedule(schedule);
      if (schedule == INTERLEAVED) config.mutable_parallel()->set_virtual_stages(2);
      const absl::StatusOr<Partition> partition = Partition::Of(config);
      ASSERT_TRUE(partition.ok()) << partition.status();
      for (const ParamSpec& spec : ParameterTable(config.model())) {
        const std::vector<int> holders = partition->HoldersOf(spec.layer);
        size_t copies = schedule == DUALPIPE ? 2 : 1;
        // Token embeddings of MTP modules are looked up on the last stage: on the first one's rank only where both are one.
        if (spec.layer < 0 && depth > 0 && schedule != DUALPIPE && schedule != DUALPIPEV) copies = 2;
        EXPECT_EQ(holders.size(), copies) << spec.name << ", " << ScheduleType_Name(schedule) << ", depth " << depth;
        for (int rank = 0; rank < 4; ++rank)
          EXPECT_EQ(partition->HeldBy(rank)(spec.layer), std::find(holders.begin(), holders.end(), rank) != holders.end());
      }
      EXPECT_LE(partition->HolderSets().size(), 8u);
    }
  }
}

// The whole batch has to suit the schedule; what would is said in the config's own words.
TEST(CheckPipeline, NamesTheNearestLegalBatch) {
  RunConfig config;
  *config.mutable_model() = Model(4, 1);
  config.mutable_train()->set_micro_batch_sequences(2);
  config.mutable_parallel()->set_pp(2);
  const auto refusal = [&](ScheduleType schedule, int64_t sequences, int64_t ramp_start = 0, int world = 2) {
    config.mutable_parallel()->set_schedule(schedule);
    config.mutable_parallel()->set_virtual_stages(schedule == INTERLEAVED ? 3 : 1);
    config.mutable_train()->set_batch_sequences(sequences);
    config.mutable_train()->set_batch_ramp_start(ramp_start);
    return std::string(CheckPipeline(config, world).message());
  };
  EXPECT_EQ(refusal(ONE_F_ONE_B, 2), "");
  EXPECT_EQ(refusal(ONE_F_ONE_B, 10, 2), "");
  EXPECT_EQ(refusal(DUALPIPE, 12), "");
  EXPECT_EQ(refusal(DUALPIPE, 22, 0, 4), "") << "11 micro-batches are 6 and 5: the second pipeline's last is empty";
  EXPECT_THAT(refusal(DUALPIPE, 2),
              testing::AllOf(testing::StartsWith("train.batch_sequences = 2: "), testing::EndsWith("; nearest legal: 8")));
  EXPECT_THAT(refusal(DUALPIPE, 22), testing::EndsWith("; nearest legal: 24"));
  EXPECT_THAT(refusal(DUALPIPEV, 6), testing::EndsWith("; nearest legal: 8"));
  EXPECT_THAT(refusal(DUALPIPEV, 6, 0, 4), HasSubstr("brings 2 micro-batches to each of 2 pipelines"));
  EXPECT_THAT(refusal(DUALPIPEV, 6, 0, 4), testing::EndsWith("; nearest legal: 14"));
  EXPECT_THAT(refusal(INTERLEAVED, 6), testing::EndsWith("; nearest legal: 8"));
  EXPECT_EQ(refusal(INTERLEAVED, 12, 4), "") << "empty micro-batches make up for what a step on the way lacks";
  config.mutable_parallel()->set_pp(3);
  EXPECT_THAT(refusal(DUALPIPE, 12, 0, 3), testing::StartsWith("parallel.pp = 3: schedule DUALPIPE"));
  EXPECT_THAT(refusal(DUALPIPE, 12, 0, 3),
              testing::EndsWith("; nearest legal: none for 3 ranks, but parallel.schedule = DUALPIPEV"));
  EXPECT_THAT(refusal(DUALPIPE, 12, 0, 6), testing::EndsWith("; nearest legal: 2")) << "4 does not divide 6";
  config.mutable_parallel()->set_pp(5);
  EXPECT_THAT(refusal(DUALPIPE, 12, 0, 30), testing::EndsWith("; nearest legal: 6"));
  config.mutable_parallel()->set_ep(2);
  EXPECT_THAT(refusal(DUALPIPE, 12, 0, 30),
              testing::EndsWith("; nearest legal: none for 30 ranks, but parallel.schedule = DUALPIPEV"));
}

// A cut for several stages is no cut for one.
TEST(CheckPipeline, OneStageRefusesACutForMore) {
  RunConfig config;
  *config.mutable_model() = Model(4, 1);
  config.mutable_train()->set_batch_sequences(4);
  config.mutable_parallel()->set_stages("2|2");
  EXPECT_THAT(std::string(CheckPipeline(config, 1).message()), testing::StartsWith("parallel.stages = \"2|2\""));
  config.mutable_parallel()->set_schedule(DUALPIPEV);
  EXPECT_TRUE(CheckPipeline(config, 1).ok()) << "whose one rank has two";
  config.mutable_parallel()->set_schedule(ZB_H1);
  config.mutable_parallel()->set_stages("4");
  EXPECT_TRUE(CheckPipeline(config, 1).ok());
}

TEST(OverNodes, ForwardsWhereNodesHaveWholeGroups) {
  RunConfig config;
  *config.mutable_model() = TinyModel();  // four groups
  const auto shape = [&](DispatchType dispatch, int ep, int ep_nodes, int found) {
    config.mutable_parallel()->set_dispatch(dispatch);
    config.mutable_parallel()->set_ep_nodes(ep_nodes);
    return OverNodes(config, {.world = ep, .pp = 1, .ep = ep}, found);
  };
  const auto forwards = [&](DispatchType dispatch, int ep, int ep_nodes, int found) {
    return shape(dispatch, ep, ep_nodes, found)->forwards;
  };
  EXPECT_FALSE(forwards(AUTO, 8, 0, 1));
  EXPECT_TRUE(forwards(AUTO, 8, 0, 2));
  EXPECT_TRUE(forwards(AUTO, 8, 4, 1)) << "what the config says goes before what was found";
  EXPECT_FALSE(forwards(AUTO, 8, 8, 1)) << "half a group on each";
  EXPECT_FALSE(forwards(AUTO, 8, 0, 0)) << "unevenly";
  EXPECT_FALSE(forwards(FLAT, 8, 0, 2));
  EXPECT_TRUE(forwards(FORWARDING, 8, 0, 1));
  EXPECT_EQ(shape(FLAT, 8, 0, 2)->ep_nodes, 2);

  const auto refusal = [&](DispatchType dispatch, int ep, int ep_nodes, int found) {
    const absl::Status status = shape(dispatch, ep, ep_nodes, found).status();
    EXPECT_EQ(ExitCodeOf(status), ExitCode::kUsage);
    return std::string(status.message());
  };
  EXPECT_THAT(refusal(FORWARDING, 8, 0, 0),
              HasSubstr("parallel.dispatch = FORWARDING: the parallel.ep = 8 ranks of a group do not lie evenly"));
  EXPECT_THAT(refusal(FORWARDING, 8, 8, 1), HasSubstr("the 8 nodes of an ep group have to divide model.moe.groups = 4"));
  EXPECT_THAT(refusal(AUTO, 8, 3, 1),
              testing::AllOf(HasSubstr("parallel.ep_nodes = 3: must divide parallel.ep = 8"), HasSubstr("nearest: 2 or 4")));
}

}  // namespace
}  // namespace jevons

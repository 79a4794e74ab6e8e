from models_store.script import learning, network


def optimizer(known):
    return "\n".join(learning.optimizer(known, network.planned(known)))


def test_only_what_differs_is_said(known):
    given = {"name": "Adam", "lr": 0.001, "betas": [0.8, 0.99]}

    assert optimizer(known(optimizer=given)) == (
        "optimizer = torch.optim.Adam(model.parameters(), lr=0.001, betas=(0.8, 0.99), fused=True)"
    )
    assert "fused" not in optimizer(known(optimizer=given, device="mps"))
    assert "fused=False" in optimizer(known(optimizer={**given, "fused": False}))


def test_muon_alone_where_all_weights_are_of_two_dimensions(known):
    layers = [{"type": "Flatten"}, {"type": "Linear", "bias": False}]
    alone = known(optimizer="Muon", architecture={"layers": layers})

    assert "AdamW" not in optimizer(alone)
    assert learning.definitions(alone, network.planned(alone)) == []
    assert "MuonAndAdamW(" in optimizer(known(optimizer="Muon"))


def test_the_length_of_a_schedule(known):
    def schedule(**given):
        scheduler = {"name": "CosineAnnealingLR", **given}
        return " ".join(" ".join(learning.schedule(known(scheduler=scheduler))).split())

    assert learning.schedule(known()) == []
    assert "T_max=EPOCHS)" in schedule()
    assert "T_max=EPOCHS * len(train_loader)," in schedule(interval="step")
    assert "T_max=EPOCHS - warm_up_steps // len(train_loader)" in schedule(warmup_epochs=1.5)
    assert "T_max=7)" in schedule(T_max=7)


def test_losses(known):
    assert learning.loss(known(loss="L1Loss")) == ["loss_fn = nn.L1Loss()"]
    weighted = learning.loss(known(class_weights=[1.0, 2.0, 3.0]))
    assert weighted[0] == "weight = torch.tensor([1.0, 2.0, 3.0])"
    assert learning.ignored(known(loss={"ignore_index": 2})) == 2
    assert learning.ignored(known()) is None

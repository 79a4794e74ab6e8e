"""The ready-made recipes are listed, and each is taken as it is."""


def test_each_ready_made_recipe_can_be_trained(shared):
    page = shared.get("/recipes").json()
    names = [one["name"] for one in page["items"]]
    assert names == ["notes-mnist", "notes-cifar10", "cifar10-fast", "mnist-fast", "fine-tune"]
    assert all(one["summary"] for one in page["items"])
    for one in page["items"][:-1]:
        by_name = shared.post("/train?dry_run=true", json={"recipe": one["name"]})
        in_words = shared.post("/train?dry_run=true", json=one["recipe"])
        assert by_name.status_code == in_words.status_code == 200
        seeds = {"seed": 0}  # drawn anew where the recipe has none
        assert by_name.json()["recipe"] | seeds == in_words.json()["recipe"] | seeds


def test_the_notes_recipe_is_the_notes_script(shared):
    plan = shared.post("/train?dry_run=true", json={"recipe": "notes-mnist"}).json()
    assert plan["recipe"]["validation"] == "test"
    assert plan["recipe"]["seed"] == 0
    assert plan["steps"] == 4690  # 60,000 images in batches of 128, ten times


def test_to_fine_tune_one_names_a_data_set(shared):
    refused = shared.post("/train?dry_run=true", json={"recipe": "fine-tune"})
    assert refused.status_code == 422
    assert refused.json()["errors"] == [{"loc": ["body", "dataset"], "msg": "Field required"}]

    body = {"recipe": "fine-tune", "dataset": "cifar10"}
    plan = shared.post("/train?dry_run=true", json=body).json()["recipe"]
    assert (plan["architecture"], plan["pretrained"], plan["head_lr"]) == (
        *("mobilenet_v3_large", True),
        0.003,
    )
    assert plan["image_size"] == 224
    assert plan["normalize"]["mean"][0] == 0.485


def test_the_list_comes_in_pages(comes_in_pages):
    comes_in_pages("/recipes")

"""The ready-made recipes are listed, and each is taken as it is."""


def test_each_ready_made_recipe_can_be_trained(shared):
    page = shared.get("/recipes").json()
    assert [one["name"] for one in page["items"]] == ["notes-mnist", "notes-cifar10"]
    for one in page["items"]:
        by_name = shared.post("/train?dry_run=true", json={"recipe": one["name"]})
        in_words = shared.post("/train?dry_run=true", json=one["recipe"])
        assert by_name.status_code == in_words.status_code == 200
        assert by_name.json()["recipe"] == in_words.json()["recipe"]


def test_the_notes_recipe_is_the_notes_script(shared):
    plan = shared.post("/train?dry_run=true", json={"recipe": "notes-mnist"}).json()
    assert plan["recipe"]["validation"] == "test"
    assert plan["recipe"]["seed"] == 0
    assert plan["steps"] == 4690  # 60,000 images in batches of 128, ten times

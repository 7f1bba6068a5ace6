"""The names that people build on: none is lost, wherever it lives now."""

from __future__ import annotations

from importlib import import_module

import pytest

NAMES = {
    "port": """
        BlobSpec Misfit UserLayer convert_net convert_weights export_onnx extend_schema load_net load_solver
        load_weights params read_mean register register_python run_blobs save_caffemodel write_mean
    """,
    "port.caffemodel": """
        Blob ModelFile ModelLayer SolverState read_blob read_caffemodel read_state write_caffemodel write_net
        write_state
    """,
    "port.convert": "Conversion convert_net convert_weights",
    "port.data": """
        DataSource Database Transformer Window create data_shapes datum_values encoded_datum image_datum label_datum
        new_database open_data parse_datum
    """,
    "port.graph.build": "build_graph load_graph",
    "port.graph.count": "Size layer_sizes measure part_sizes total",
    "port.images": "AUTHORS MEAN RESIZES find_images load_image read_image_list read_pixels sample_images",
    "port.layers": """
        BlobSpec Context KINDS Layer Misfit REGISTRY RULES Shape UserLayer accuracy activations affine
        classification convolution data distances eltwise extend_schema host inner_product inputs local losses
        make_layer nonlinear normalization pooling recurrent reduction regions register register_python selecting
        shaping show softmax user
    """,
    "port.scoring": "BATCH Options compute_scores image_input score score_output write_scores",
    "port.show.inspect": "columns describe describe_survey draw",
    "port.solver": "Solver load_solver",
    "port.training": "Options PlateauOptions Speed train",
    "prototxt_gen": """
        DataSet Main NetBuilder Network Profile Step add_dataset add_network add_profile build_net configure
        net_text networks training_files write_all write_net write_training
    """,
    "prototxt_gen.nets": """
        DATASETS DEFAULT_DATASET DEFAULT_DIALECT DEFAULT_PROFILE DIALECT_NAMES LOGITS Main NETWORKS NetConfig
        Network PROFILES Profile Step add_dataset add_network add_profile at_step build_net configure
    """,
    "prototxt_gen.schema": """
        DIALECTS LAYER_TYPES Parsed descriptor detect format_float is_repeated message_class message_names parse
        parse_prototxt read_prototxt read_tolerantly to_text upgrade_net upgrade_parsed upgrade_solver
    """,
    "reference_weights.miniatures": "DATASET NETWORKS SHAPES WIDTH_DIVISOR options",
    "reference_weights.shapes": """
        CLASSES Class NAMES Relation Scene Thing Written labels_of mask render scene write_dataset
    """,
    "verify.evaluation.scores": "match read_labels read_scores write_scores",
    "verify.metrics": "evaluate",
    "verify.tables": "Figure PublishedTable ROW RowComparison compare_row load_table side_by_side",
}


@pytest.mark.parametrize("module", NAMES)
def test_every_name_is_there(module):
    home = import_module(module)
    assert not [name for name in NAMES[module].split() if not hasattr(home, name)]


@pytest.mark.parametrize("module", [name for name in NAMES if hasattr(import_module(name), "__all__")])
def test_what_a_module_offers_it_has(module):
    home = import_module(module)
    assert home.__all__ and not [name for name in home.__all__ if not hasattr(home, name)]


def test_a_lost_name_is_noticed(monkeypatch):
    import port.convert

    monkeypatch.delattr(port.convert, "convert_net")
    with pytest.raises(AssertionError):
        test_every_name_is_there("port.convert")

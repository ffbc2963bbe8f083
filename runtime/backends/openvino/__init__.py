"""The backend `openvino-cpu`: runs a package's own graphs, as ONNX Runtime's on the CPU does.

`library` is all that is asked of the vendor, `forms` has a graph compiled for the shapes that are
met, `engine` is one network, and `backend` the networks of a package. OpenVINO is imported when the
backend is opened.
"""

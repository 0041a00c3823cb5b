"""What Cascade is made of: locked versions, known vulnerabilities, licences, and bills of materials.

Tools for developers and CI, run by `make lock`, `make audit` and `make sbom`; nothing that serves imports them.
"""
